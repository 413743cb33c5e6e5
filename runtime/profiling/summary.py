"""Summarise timings with nearest-rank percentiles, so that each percentile is a measured time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

ENOUGH_FOR_P99 = 100  # with fewer calls, the nearest rank of p99 is the maximum


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Timings in milliseconds. `jitter` is p99 - p50, `std` the standard deviation around the mean."""

    samples: int
    p50: float
    p90: float
    p95: float
    p99: float
    max: float
    jitter: float
    std: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Summary:
        """Summarise at least one timing."""
        ordered = sorted(milliseconds)
        p50, p90, p95, p99 = (nearest_rank(ordered, p) for p in (50, 90, 95, 99))
        mean = math.fsum(ordered) / len(ordered)
        variance = math.fsum((x - mean) ** 2 for x in ordered) / len(ordered)
        return cls(
            samples=len(ordered),
            p50=p50,
            p90=p90,
            p95=p95,
            p99=p99,
            max=ordered[-1],
            jitter=p99 - p50,
            std=math.sqrt(variance),
        )

    @property
    def enough_for_p99(self) -> bool:
        """Whether p99 differs from the maximum in rank."""
        return self.samples >= ENOUGH_FOR_P99

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field, rounded to nanoseconds."""
        return {name: round(value, 6) for name, value in asdict(self).items()}


def nearest_rank(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest value of `ordered` (ascending, not empty) that at least `percent` % of them do not exceed."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]
