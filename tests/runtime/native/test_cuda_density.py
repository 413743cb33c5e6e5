"""The log-density kernels, run on the host, compared with core.density."""

from __future__ import annotations

import cuda_twin as twin
import numpy as np
import pytest
from density_checks import assert_far_is_finite_and_right, assert_what_is_not_finite_shows, points
from hypothesis import given, settings
from hypothesis import strategies as st

from leakrt.core.density import log_density_reference


@settings(deadline=None, max_examples=60)
@given(batch=st.integers(1, 4), count=st.integers(1, 700), dimension=st.integers(1, 35),
       bandwidth=st.floats(0.01, 10), scale=st.floats(0.01, 30))  # fmt: skip
def test_it_agrees_with_the_reference(batch, count, dimension, bandwidth, scale):
    x, support = points(batch, count, dimension, scale=scale)
    expected = log_density_reference(x, support, bandwidth)
    np.testing.assert_allclose(twin.kde_log_density(x, support, bandwidth), expected, rtol=1e-11, atol=1e-9)


def test_more_blocks_than_threads_of_a_merge():
    x, support = points(2, 128 * 130 + 5, 3)
    expected = log_density_reference(x, support, 0.3)
    np.testing.assert_allclose(twin.kde_log_density(x, support, 0.3), expected, rtol=1e-11)


def test_results_do_not_depend_on_the_batch():
    x, support = points(7, 1025, 19)
    alone = [twin.kde_log_density(x[i : i + 1], support, 0.7)[0] for i in range(7)]
    np.testing.assert_array_equal(twin.kde_log_density(x, support, 0.7), alone)


def test_non_finite_values_propagate():
    assert_what_is_not_finite_shows(twin.kde_log_density)


def test_far_from_the_support_it_is_finite_and_correct():
    assert_far_is_finite_and_right(twin.kde_log_density)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan"), float("inf"), 1e-200])
def test_an_invalid_bandwidth_is_refused(bandwidth):
    with pytest.raises(ValueError, match="bandwidth"):
        twin.kde_log_density(*points(2, 3, 4), bandwidth)


def test_an_empty_support_is_refused():
    with pytest.raises(ValueError, match="support"):
        twin.kde_log_density(*points(2, 0, 4), 0.5)
