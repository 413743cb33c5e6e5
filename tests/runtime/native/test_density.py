"""Native log-density compared with core.density."""

from __future__ import annotations

import numpy as np
import pytest
from density_checks import assert_far_is_finite_and_right, assert_what_is_not_finite_shows, points
from hypothesis import given, settings
from hypothesis import strategies as st

from leakrt import _core
from leakrt.core.density import log_density_reference


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(0, 5),
    count=st.integers(1, 1100),
    dimension=st.integers(1, 35),
    bandwidth=st.floats(0.01, 10),
    scale=st.floats(0.01, 30),
)
def test_it_agrees_with_the_reference(batch, count, dimension, bandwidth, scale):
    x, support = points(batch, count, dimension, scale=scale)
    expected = log_density_reference(x, support, bandwidth)
    np.testing.assert_allclose(_core.kde_log_density(x, support, bandwidth), expected, rtol=1e-11, atol=1e-9)


def test_results_do_not_depend_on_batch_or_threads():
    x, support = points(33, 1025, 128)
    together = _core.kde_log_density(x, support, 0.7, threads=1)
    np.testing.assert_array_equal(together, _core.kde_log_density(x, support, 0.7, threads=4))
    np.testing.assert_array_equal(together, _core.kde_log_density(x, support, 0.7))
    alone = [_core.kde_log_density(x[i : i + 1], support, 0.7)[0] for i in range(33)]
    np.testing.assert_array_equal(together, alone)


def test_far_from_the_support_it_is_finite_and_correct():
    assert_far_is_finite_and_right(_core.kde_log_density)


def test_non_finite_values_propagate():
    assert_what_is_not_finite_shows(_core.kde_log_density)


def test_it_writes_into_out():
    x, support = points(4, 9, 3)
    out = np.zeros(4)
    assert _core.kde_log_density(x, support, 0.5, out=out) is out
    np.testing.assert_array_equal(out, _core.kde_log_density(x, support, 0.5))


def test_an_empty_batch_gives_an_empty_result():
    x, support = points(0, 9, 3)
    assert _core.kde_log_density(x, support, 0.5).shape == (0,)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan"), float("inf"), 1e-200])
def test_an_invalid_bandwidth_is_refused(bandwidth):
    with pytest.raises(ValueError, match="bandwidth"):
        _core.kde_log_density(*points(2, 3, 4), bandwidth)


def test_an_empty_support_is_refused():
    with pytest.raises(ValueError, match="support"):
        _core.kde_log_density(*points(2, 0, 4), 0.5)
