"""Nearest-rank percentiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakrt.runtime.profiling.summary import Summary, nearest_rank

TIMES = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=300)


@given(TIMES, st.integers(1, 100))
def test_a_percentile_is_the_smallest_sample_that_enough_samples_do_not_exceed(times, percent):
    found = nearest_rank(sorted(times), percent)
    assert found in times
    assert 100 * sum(t <= found for t in times) >= percent * len(times)
    smaller = [t for t in times if t < found]
    assert 100 * len(smaller) < percent * len(times)


def test_ranks_match_the_definition():
    ordered = [float(n) for n in range(1, 201)]
    assert [nearest_rank(ordered, p) for p in (1, 50, 90, 95, 99, 100)] == [2, 100, 180, 190, 198, 200]
    assert [nearest_rank([1.0, 2.0, 3.0], p) for p in (1, 33, 34, 50, 67, 99)] == [1, 1, 2, 2, 3, 3]


@given(TIMES)
def test_std_matches_numpy_and_jitter_is_p99_minus_p50(times):
    found = Summary.of(times)
    assert found.std == pytest.approx(np.std(times), rel=1e-9, abs=1e-6)
    assert found.jitter == found.p99 - found.p50
    assert found.p50 <= found.p90 <= found.p95 <= found.p99 <= found.max == max(times)


def test_one_outlier_in_a_thousand_changes_no_percentile():
    times = [1.0 + i / 1000 for i in range(1000)]
    wild = [*times[:-1], 1e6]
    calm, hit = Summary.of(times), Summary.of(wild)
    assert (hit.p50, hit.p90, hit.p95, hit.p99, hit.jitter) == (calm.p50, calm.p90, calm.p95, calm.p99, calm.jitter)
    assert hit.max == 1e6


def test_p99_needs_a_hundred_samples():
    assert Summary.of([1.0] * 99 + [2.0]).p99 == 1.0
    assert Summary.of([1.0] * 100).enough_for_p99
    assert not Summary.of([1.0] * 99).enough_for_p99
