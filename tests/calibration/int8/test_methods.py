import numpy as np
import pytest

from leakrt.calibration.int8.histogram import MagnitudeHistogram
from leakrt.calibration.int8.methods import METHODS, symmetric_range
from leakrt.core.errors import UsageError


def histogram_of(x):
    histogram = MagnitudeHistogram()
    histogram.add(x.astype(np.float32))
    return histogram


def rounding_error(x, r):
    scale = r / 127
    return float(((np.clip(np.rint(x / scale), -127, 127) * scale - x) ** 2).mean())


def test_minmax_is_the_largest_magnitude():
    x = np.random.default_rng(0).laplace(size=20000)
    assert symmetric_range(histogram_of(x), "minmax") == pytest.approx(np.abs(x).max(), rel=1e-6)


def test_percentile_is_the_quantile_to_within_a_bin():
    x = np.random.default_rng(1).standard_normal(200_000)
    found = symmetric_range(histogram_of(x), "percentile")
    assert found == pytest.approx(np.quantile(np.abs(x), 0.9999), rel=0.02)


def test_mse_is_close_to_the_best_range_that_a_search_over_the_values_finds():
    x = np.random.default_rng(2).laplace(size=100_000)
    best = min(rounding_error(x, r) for r in np.abs(x).max() * np.linspace(0.05, 1, 200))
    assert rounding_error(x, symmetric_range(histogram_of(x), "mse")) <= 1.02 * best


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_one_outlier_does_not_set_the_range(method):
    x = np.append(np.random.default_rng(3).standard_normal(200_000), 60.0)
    assert symmetric_range(histogram_of(x), method) < 15.0


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_still_has_a_positive_range(method):
    assert symmetric_range(histogram_of(np.zeros(10)), method) > 0


def test_the_error_of_an_unknown_method_lists_the_methods():
    with pytest.raises(UsageError, match=r"'best'.*entropy, percentile, minmax, mse"):
        symmetric_range(histogram_of(np.ones(3)), "best")
