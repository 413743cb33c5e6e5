"""A streaming histogram of magnitudes, in memory that does not grow with what it has seen."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.errors import DataError

BINS = 4096  # at least half of them are in use, since the limit is the next power of two
_CHUNK = 1 << 20

Counts = npt.NDArray[np.int64]


@dataclass
class MagnitudeHistogram:
    """|x| over [0, limit] in `BINS` bins of equal width.

    The limit is a power of two: when a larger value comes it doubles, and pairs of bins become one. So the state
    depends on the values alone, not on their order, and a resumed histogram ends like an undisturbed one.
    """

    limit: float = 0.0  # 0: nothing but zeros was seen
    largest: float = 0.0
    counts: Counts = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count every value, float32 of any shape. Raises DataError for one that is not finite."""
        flat = values.reshape(-1)
        for start in range(0, len(flat), _CHUNK):
            self._add_chunk(np.abs(flat[start : start + _CHUNK]))

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    @property
    def centres(self) -> npt.NDArray[np.float64]:
        """The middle of each bin, float64 [BINS]."""
        return np.asarray((np.arange(BINS) + 0.5) * (self.limit / BINS), np.float64)

    def cumulative(self, limit: float) -> npt.NDArray[np.float64]:
        """The share of values up to the upper edge of each of `BINS` bins over [0, limit], float64 [BINS].

        `limit` is a power of two and no smaller than this histogram's own; all zeros where nothing was counted.
        """
        wider = MagnitudeHistogram(self.limit, self.largest, self.counts.copy())
        wider._grow(limit)
        return np.asarray(np.cumsum(wider.counts) / max(self.total, 1), np.float64)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; trailing zeros are left out."""
        used = int(np.flatnonzero(self.counts)[-1]) + 1 if self.counts.any() else 0
        return {"limit": self.limit, "largest": self.largest, "counts": self.counts[:used].tolist()}

    @classmethod
    def from_json(cls, data: Any) -> MagnitudeHistogram:
        """Read what `to_json` wrote. Raises ValueError, TypeError or KeyError for anything else."""
        counts = np.zeros(BINS, np.int64)
        stored = np.array(data["counts"], np.int64)
        if stored.ndim != 1 or len(stored) > BINS or (stored < 0).any():
            raise ValueError("the counts of a histogram are not 4096 or fewer whole numbers")
        counts[: len(stored)] = stored
        limit, largest = float(data["limit"]), float(data["largest"])
        if not (math.isfinite(limit) and 0 <= largest <= limit):
            raise ValueError("a histogram's limit does not fit its largest value")
        return cls(limit, largest, counts)

    def _add_chunk(self, magnitudes: npt.NDArray[np.float32]) -> None:
        if not len(magnitudes):
            return
        largest = float(magnitudes.max())
        if not math.isfinite(largest):
            raise DataError(
                "a value that is not finite came up in calibration; the fp32 graph overflows on these images"
            )
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
            zeros, kept = self.counts, np.zeros(BINS, np.int64)
            if merge >= BINS:
                kept[0] = zeros.sum()
            else:
                kept[: BINS // merge] = zeros.reshape(-1, merge).sum(axis=1)
            self.counts = kept
        self.limit = wanted
