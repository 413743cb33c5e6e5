import json

import numpy as np
import pytest

from leakrt.calibration.int8.histogram import BINS, MagnitudeHistogram
from leakrt.core.errors import DataError


def values(seed, scale=1.0, size=5000):
    return (np.random.default_rng(seed).standard_normal(size) * scale).astype(np.float32)


def test_every_value_is_counted_once_and_the_largest_is_kept():
    histogram, x = MagnitudeHistogram(), values(0)
    histogram.add(x.reshape(50, 100))
    assert histogram.total == x.size
    assert histogram.largest == np.abs(x).max()
    assert histogram.limit >= histogram.largest > histogram.limit / 2


def test_the_state_does_not_depend_on_the_order_of_the_values():
    small, large = values(1, 0.01), values(2, 300.0)
    first, second = MagnitudeHistogram(), MagnitudeHistogram()
    for x in (small, large):
        first.add(x)
    for x in (large, small):
        second.add(x)
    assert first.limit == second.limit
    np.testing.assert_array_equal(first.counts, second.counts)


def test_growing_keeps_the_count_even_when_everything_before_falls_into_one_bin():
    histogram = MagnitudeHistogram()
    histogram.add(values(3, 1e-6))
    histogram.add(np.float32([1e6]))
    assert histogram.total == 5001
    assert histogram.counts[0] == 5000


def test_a_stored_histogram_continues_like_an_uninterrupted_one():
    whole, part = MagnitudeHistogram(), MagnitudeHistogram()
    for histogram in (whole, part):
        histogram.add(values(4))
    resumed = MagnitudeHistogram.from_json(json.loads(json.dumps(part.to_json())))
    for histogram in (whole, resumed):
        histogram.add(values(5, 9.0))
    np.testing.assert_array_equal(whole.counts, resumed.counts)
    assert (whole.limit, whole.largest) == (resumed.limit, resumed.largest)


def test_only_zeros_need_no_limit():
    histogram = MagnitudeHistogram()
    histogram.add(np.zeros(7, np.float32))
    assert (histogram.total, histogram.limit, histogram.largest) == (7, 0.0, 0.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(bad):
    with pytest.raises(DataError, match="not finite"):
        MagnitudeHistogram().add(np.float32([1.0, bad]))


@pytest.mark.parametrize("counts", [[-1], [0] * (BINS + 1), [[1]]])
def test_damaged_counts_are_refused(counts):
    with pytest.raises(ValueError, match="counts"):
        MagnitudeHistogram.from_json({"limit": 1.0, "largest": 1.0, "counts": counts})
