"""From a histogram of magnitudes to the range that int8 shall span: four methods, all symmetric."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ...core.errors import UsageError
from .histogram import BINS, MagnitudeHistogram

LEVELS = 127  # int8 without -128, as TensorRT's symmetric scale has it
PERCENTILE = 99.99
_ENTROPY_LEVELS = 128
_ENTROPY_STEP = 16
_SMALLEST_RANGE = 1e-8  # a tensor that is all zeros still needs a scale


def symmetric_range(histogram: MagnitudeHistogram, method: str) -> float:
    """r, so that int8 spans [-r, r] with scale r / 127. Raises UsageError for a method that doesn't exist."""
    check_method(method)
    if histogram.total == 0 or histogram.largest <= _SMALLEST_RANGE:
        return _SMALLEST_RANGE
    found = min(METHODS[method](histogram), histogram.largest)
    return max(float(np.float32(found)), _SMALLEST_RANGE)


def check_method(method: str) -> None:
    """Raises UsageError naming the methods there are."""
    if method not in METHODS:
        raise UsageError(f"no calibration method {method!r}; choose one of: {', '.join(METHODS)}")


def _minmax(histogram: MagnitudeHistogram) -> float:
    """The largest magnitude seen: nothing is clipped."""
    return histogram.largest


def _percentile(histogram: MagnitudeHistogram) -> float:
    """The magnitude under which 99.99 % of the values lie."""
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
    """Expected squared error of each magnitude: s^2 / 12 where it is rounded, (|x| - r)^2 where it is clipped.

    A bin that is finer than the scale holds values on both sides of a level, so the error is the expected one and
    not that of the bin's middle; values far under the scale round to zero and lose themselves.
    """
    scale = r / LEVELS
    rounding = np.where(values < scale / 2.0, values**2, scale**2 / 12.0)
    return np.where(values > r, (values - r) ** 2 + scale**2 / 12.0, rounding)


def _entropy(histogram: MagnitudeHistogram) -> float:
    """The range with the least Kullback-Leibler divergence of the clipped from the quantised distribution.

    Migacz, "8-bit inference with TensorRT" (GTC 2017): the values beyond the range are added to its last bin of P;
    Q spreads each of 128 levels evenly over its occupied bins.
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
