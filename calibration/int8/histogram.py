"""A streaming histogram of absolute values with constant memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.errors import DataError

BINS = 4096  # at least half of them are used, since the limit is the next power of two
_CHUNK = 1 << 20

Counts = npt.NDArray[np.int64]


@dataclass
class MagnitudeHistogram:
    """|x| over [0, limit] in `BINS` bins of equal width.

    The limit is a power of two. A larger value doubles it, and pairs of bins are merged. The state therefore doesn't
    depend on the order of the values, and a resumed histogram equals an uninterrupted one.
    """

    limit: float = 0.0  # 0 if all values are zero
    largest: float = 0.0
    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count every value of a float32 array of any shape. Raises DataError if a value is not finite."""
        flat = values.reshape(-1)
        for start in range(0, len(flat), _CHUNK):
            self._add_chunk(np.abs(flat[start : start + _CHUNK]))

    @property
    def total(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """Centre of each bin, float64 [BINS]."""
        return np.asarray((np.arange(BINS) + 0.5) * (self.limit / BINS), np.float64)

    def cumulative(self, limit: float) -> npt.NDArray[np.float64]:
        """Return the share of values up to the upper edge of each of `BINS` bins over [0, limit], float64 [BINS].

        `limit` must be a power of two and at least `self.limit`. An empty histogram returns zeros.
        """
        wider = MagnitudeHistogram(self.limit, self.largest, self.counts.copy())
        wider._grow(limit)
        return np.asarray(np.cumsum(wider.counts) / max(self.total, 1), np.float64)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object without trailing zeros."""
        used = int(np.flatnonzero(self.counts)[-1]) + 1 if self.counts.any() else 0
        return {"limit": self.limit, "largest": self.largest, "counts": self.counts[:used].tolist()}

    @classmethod
    def from_json(cls, data: Any) -> MagnitudeHistogram:
        """Read the output of `to_json`. Raises ValueError, TypeError or KeyError for invalid data."""
        counts = np.zeros(BINS, np.int64)
        stored = np.array(data["counts"], np.int64)
        if stored.ndim != 1 or len(stored) > BINS or (stored < 0).any():
            raise ValueError("the counts of a histogram must be at most 4096 non-negative integers")
        counts[: len(stored)] = stored
        limit, largest = float(data["limit"]), float(data["largest"])
        if not (math.isfinite(limit) and 0 <= largest <= limit):
            raise ValueError("the limit of a histogram must be finite and at least its largest value")
        return cls(limit, largest, counts)

    def _add_chunk(self, magnitudes: npt.NDArray[np.float32]) -> None:
        if not len(magnitudes):
            return
        largest = float(magnitudes.max())
        if not math.isfinite(largest):
            raise DataError("a value is not finite: the fp32 graph overflows on these images; check the images")
        self._grow(largest)
        self.largest = max(self.largest, largest)
        if self.limit == 0.0:
            self.counts[0] += len(magnitudes)
            return
        index = (magnitudes * np.float32(BINS / self.limit)).astype(np.int32)
        np.minimum(index, BINS - 1, out=index)
        self.counts += np.bincount(index, minlength=BINS)

    def _grow(self, largest: float) -> None:
        if largest <= self.limit or largest == 0.0:
            return
        wanted = 2.0 ** math.ceil(math.log2(largest))
        wanted = wanted if wanted >= largest else 2.0 * wanted
        if self.limit > 0.0:
            merge = round(wanted / self.limit)
            counts, kept = self.counts, np.zeros(BINS, np.int64)
            if merge >= BINS:
                kept[0] = counts.sum()
            else:
                kept[: BINS // merge] = counts.reshape(-1, merge).sum(axis=1)
            self.counts = kept
        self.limit = wanted
