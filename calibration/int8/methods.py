"""Four methods to select the symmetric int8 range of a tensor from its histogram."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ...core.errors import UsageError
from .histogram import BINS, MagnitudeHistogram

LEVELS = 127  # int8 without -128, as in TensorRT's symmetric scale
PERCENTILE = 99.99
_ENTROPY_LEVELS = 128
_ENTROPY_STEP = 16
_SMALLEST_RANGE = 1e-8  # a tensor that is all zeros still needs a scale


def symmetric_range(histogram: MagnitudeHistogram, method: str) -> float:
    """Return r, so that int8 spans [-r, r] with scale r / 127. Raises UsageError for an unknown method."""
    check_method(method)
    if histogram.total == 0 or histogram.largest <= _SMALLEST_RANGE:
        return _SMALLEST_RANGE
    found = min(METHODS[method](histogram), histogram.largest)
    return max(float(np.float32(found)), _SMALLEST_RANGE)


def check_method(method: str) -> None:
    """Raise UsageError for an unknown method."""
    if method not in METHODS:
        raise UsageError(f"unknown calibration method {method!r}; choose one of: {', '.join(METHODS)}")


def _minmax(histogram: MagnitudeHistogram) -> float:
    """The largest magnitude: no value is clipped."""
    return histogram.largest


def _percentile(histogram: MagnitudeHistogram) -> float:
    """The 99.99th percentile of the magnitudes."""
    below = np.cumsum(histogram.counts)
    index = int(np.searchsorted(below, below[-1] * (PERCENTILE / 100.0)))
    return (min(index, BINS - 1) + 1) * histogram.limit / BINS


def _mse(histogram: MagnitudeHistogram) -> float:
    """The range with the least mean squared error of rounding and clipping."""
    used = np.flatnonzero(histogram.counts)
    values, weights = histogram.centres[used], histogram.counts[used].astype(np.float64)
    candidates = histogram.largest * np.geomspace(0.02, 1.0, 160)
    errors = [float(weights @ _squared_error(values, r)) for r in candidates]
    return float(candidates[int(np.argmin(errors))])


def _squared_error(values: npt.NDArray[np.float64], r: float) -> npt.NDArray[np.float64]:
    """Return the expected squared error of each magnitude.

    It is s^2 / 12 for rounded values, s^2 / 12 + (|x| - r)^2 for clipped ones, and x^2 for those that round to zero.
    The error of the bin centre would be wrong for rounded values, since a bin can have values on both sides of a level.
    """
    scale = r / LEVELS
    rounding = np.where(values < scale / 2.0, values**2, scale**2 / 12.0)
    return np.where(values > r, (values - r) ** 2 + scale**2 / 12.0, rounding)


def _entropy(histogram: MagnitudeHistogram) -> float:
    """The range with the least Kullback-Leibler divergence of the clipped from the quantised distribution.

    Source: Migacz, "8-bit inference with TensorRT" (GTC 2017). P adds the values beyond the range to its last bin. Q
    spreads each of 128 levels evenly over its occupied bins.
    """
    counts = histogram.counts.astype(np.float64)
    last = int(np.flatnonzero(counts)[-1]) + 1
    stops = range(min(_ENTROPY_LEVELS, last), last + 1, _ENTROPY_STEP)
    divergences = [_divergence(counts, stop) for stop in stops]
    best = stops[int(np.argmin(divergences))]
    return float(best * histogram.limit / BINS)


def _divergence(counts: npt.NDArray[np.float64], stop: int) -> float:
    inside = counts[:stop]
    reference = inside.copy()
    reference[-1] += counts[stop:].sum()
    level = (np.arange(stop) * _ENTROPY_LEVELS) // stop
    occupied = reference > 0
    mass = np.bincount(level, weights=inside, minlength=_ENTROPY_LEVELS)
    members = np.bincount(level, weights=occupied.astype(np.float64), minlength=_ENTROPY_LEVELS)
    quantised = np.where(occupied, (mass / np.maximum(members, 1.0))[level], 0.0)
    p, q = reference / reference.sum(), quantised / max(quantised.sum(), 1.0)
    return float((p[occupied] * np.log(p[occupied] / np.maximum(q[occupied], 1e-12))).sum())


METHODS: dict[str, Callable[[MagnitudeHistogram], float]] = {
    "entropy": _entropy,
    "percentile": _percentile,
    "minmax": _minmax,
    "mse": _mse,
}
