"""Comparison of a bundle's precisions: size, latency, metrics and agreement with fp32."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.verdict import Verdict
from .evaluation import Evaluation

_BEFORE_THE_NETWORK = frozenset({"decode", "faces"})  # stages that don't depend on the precision

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement of two precisions over the images that both classified."""

    images: int
    labels: float  # share with the same likeliest class; nan without images
    confident: float  # the same over images whose margin in the reference is above its median; nan without any
    verdicts: float  # share with the same kind of verdict


@dataclass(frozen=True)
class Latency:
    """Milliseconds per image from preprocessing to decision."""

    p50: float
    p99: float


@dataclass(frozen=True, kw_only=True)
class PrecisionResult:
    """One precision on one backend."""

    precision: str
    backend: str
    megabytes: float  # graphs and density, 10^6 bytes
    evaluation: Evaluation
    agreement: Agreement  # with fp32
    latency: Latency
    caught: int  # outputs that failed the finite check

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object: the evaluation's entries plus those of the comparison."""
        return {
            **self.evaluation.to_json(),
            "backend": self.backend,
            "megabytes": self.megabytes,
            "agreement": {name: _or_null(value) for name, value in asdict(self.agreement).items()},
            "latency_ms": {name: _or_null(value) for name, value in asdict(self.latency).items()},
            "caught": self.caught,
        }


def agreement(reference: Sequence[Verdict], found: Sequence[Verdict]) -> Agreement:
    """Compare verdicts on the same images, in the same order."""
    pairs = [(a, b) for a, b in zip(reference, found, strict=True) if _succeeded(a) and _succeeded(b)]
    if not pairs:
        return Agreement(images=0, labels=math.nan, confident=math.nan, verdicts=math.nan)
    wanted, given = (np.array([list(pair[i].scores.values()) for pair in pairs]) for i in (0, 1))
    same = wanted.argmax(axis=1) == given.argmax(axis=1)
    ordered = np.sort(wanted, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    confident = margins > np.median(margins)
    kinds = float(np.mean([a.verdict == b.verdict for a, b in pairs]))
    share = float(same[confident].mean()) if confident.any() else math.nan
    return Agreement(images=len(pairs), labels=float(same.mean()), confident=share, verdicts=kinds)


def latency(verdicts: Sequence[Verdict]) -> Latency:
    """Return percentiles over the classified images; nan without any."""
    times = [_network_ms(v.latency_ms) for v in verdicts if v.verdict is not None and v.latency_ms]
    if not times:
        return Latency(math.nan, math.nan)
    p50, p99 = np.percentile(times, (50, 99))
    return Latency(float(p50), float(p99))


def _network_ms(stages: Mapping[str, float]) -> float:
    return sum(ms for stage, ms in stages.items() if stage not in _BEFORE_THE_NETWORK)


def _succeeded(verdict: Verdict) -> bool:
    return verdict.error is None and bool(verdict.scores) and all(map(math.isfinite, verdict.scores.values()))


def _or_null(value: float) -> float | None:
    return value if math.isfinite(value) else None
