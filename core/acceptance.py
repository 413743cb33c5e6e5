"""Acceptance tests of variants against fp32: limits, measured figures and speed, as the manifest stores them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .fields import EXACT, mistyped

MAX_DROP = 0.002  # macro AUC that int8 may lose
MAX_DROP_FP16 = 0.0005
MIN_AGREEMENT = 0.99  # on images whose fp32 margin is above the median
MIN_AGREEMENT_FP16 = 0.999  # on all images
MIN_INT8_SHARE = 0.8  # of the VAE's multiplications that an int8 variant must run in int8
MIN_INT8_SPEEDUP = 1.3  # over fp32 that an int8 variant must reach on at least one backend
AUTO_SPEEDUP = 0.9  # over fp32 that `auto` requires of a variant; below 1 to allow for timing noise


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the acceptance test: how far a variant may deviate from fp32."""

    max_drop: float = MAX_DROP  # of macro AUC
    min_agreement: float = MIN_AGREEMENT
    confident_only: bool = True  # measure agreement only on images whose fp32 margin is above the median
    spare: int = 0  # images that may always disagree: a share of less than one image can't be measured


# One near tie among 900 validation images is 99.89 %, which must not fail a limit of 99.9 %.
FP16_LIMITS = Limits(max_drop=MAX_DROP_FP16, min_agreement=MIN_AGREEMENT_FP16, confident_only=False, spare=1)
LIMITS: Mapping[str, Limits] = {"fp32": FP16_LIMITS, "fp16": FP16_LIMITS, "int8": Limits()}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant compared with fp32 on the same images."""

    images: int
    macro_auc: float
    macro_auc_drop: float  # fp32 minus variant; negative if the variant is better
    agreement: float  # share of images with the same top class
    agreement_confident: float  # the same, for images whose fp32 margin is above the median
    verdict_agreement: float  # share with the same kind of verdict (real, generator, unknown, abstain)
    false_alarms: int
    real_faces: int
    interval: tuple[int, ...]  # two: the 95 % prediction interval of the false alarms on new faces

    @property
    def inside_interval(self) -> bool:
        """Whether the number of false alarms does not exceed its prediction interval."""
        return self.false_alarms <= self.interval[1]

    def failures(self, limits: Limits) -> tuple[str, ...]:
        """Return why the variant fails acceptance; empty if it passes."""
        agreement = self.agreement_confident if limits.confident_only else self.agreement
        where = "images with a margin above the median" if limits.confident_only else "all images"
        found = []
        if not self.macro_auc_drop <= limits.max_drop:
            found.append(f"macro AUC drops by {self.macro_auc_drop:.4f}, more than {limits.max_drop:g}")
        spared = limits.spare > 0 and (1.0 - agreement) * self.images < limits.spare + 0.5
        if not (agreement >= limits.min_agreement or spared):
            found.append(f"{agreement:.2%} of labels agree on {where}, less than {limits.min_agreement:.1%}")
        if not self.inside_interval:
            found.append(f"{self.false_alarms} false alarms, more than the {self.interval[1]} of the stated rate")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return {**asdict(self), "interval": list(self.interval)}


@dataclass(frozen=True)
class Speedup:
    """The time of fp32 divided by that of a variant, measured in pairs of calls."""

    median: float  # of the ratios of all pairs
    low: float  # lower end of the 95 % interval of the median; rules compare this end
    high: float
    pairs: int

    @property
    def may_be_slower(self) -> bool:
        """Whether the variant may be slower than fp32 beyond timing noise, so that `auto` skips it."""
        return not self.low >= AUTO_SPEEDUP

    def to_json(self) -> dict[str, Any]:
        """Return the speed entries of a backend's acceptance record in the manifest."""
        return {"speedup": self.median, "speedup_interval": [self.low, self.high], "speedup_pairs": self.pairs}

    @classmethod
    def from_json(cls, gate: Mapping[str, Any]) -> Speedup:
        """Read the speed entries of a backend's acceptance record; `UNCHANGED` if they are missing or invalid.

        Without an interval, both of its ends are the median.
        """
        median, ends, pairs = gate.get("speedup", 1.0), gate.get("speedup_interval"), gate.get("speedup_pairs")
        if not _positive(median):
            return UNCHANGED
        if not (isinstance(ends, list) and len(ends) == 2 and all(map(_positive, ends))):
            ends = [median, median]
        low, high = ends
        return cls(float(median), float(low), float(high), pairs if isinstance(pairs, int) else 0)

    def __str__(self) -> str:
        return f"{self.median:.2f} x as fast as fp32 ({self.low:.2f} to {self.high:.2f})"


UNCHANGED = Speedup(1.0, 1.0, 1.0, 0)  # fp32 compared with itself


def share_failures(share: float) -> tuple[str, ...]:
    """Return why this `share` of the VAE's multiplications in int8 is too small; empty if it suffices.

    NaN means that the share is not recorded.
    """
    if share >= MIN_INT8_SHARE:
        return ()
    if math.isnan(share):
        return ("the share of the VAE's multiplications in int8 is not recorded",)
    return (f"{share:.1%} of the VAE's multiplications are in int8, less than {MIN_INT8_SHARE:.0%}",)


def speed_failures(speedups: Sequence[Speedup]) -> tuple[str, ...]:
    """Return why an int8 variant with these speedups, at least one, is too slow; empty if it is fast enough."""
    best = max(speedups, key=lambda times: times.low)
    if best.low >= MIN_INT8_SPEEDUP:
        return ()
    return (f"int8 is at best {best}; the lower figure must be at least {MIN_INT8_SPEEDUP:g}",)


def acceptance_to_json(found: Comparison, limits: Limits, times: Speedup) -> dict[str, Any]:
    """Return a backend's acceptance record for the manifest: the figures, the limits and the result."""
    result = {"limits": asdict(limits), "passed": not found.failures(limits)}
    return {**found.to_json(), **result, **times.to_json()}


def acceptance_holds(precision: str, gate: Mapping[str, Any]) -> bool:
    """Return whether a backend's acceptance record in a manifest says that it passed and its figures confirm it.

    A record with missing figures did not pass. The figures are compared with the recorded limits, or with the default
    limits of the precision if the record has none.
    """
    bounds = asdict(LIMITS[precision])
    stated = gate.get("limits", bounds)
    if gate.get("passed") is not True or not isinstance(stated, dict) or stated.keys() != bounds.keys():
        return False
    found = comparison_of(gate)
    if found is None or mistyped(Limits, stated) or not _small(stated.values()):
        return False
    return not found.failures(Limits(**stated))


def comparison_of(gate: Mapping[str, Any]) -> Comparison | None:
    """Return the figures of a backend's acceptance record in a manifest; None if any is missing or invalid."""
    figures: dict[str, Any] = {name: gate.get(name) for name in Comparison.__dataclass_fields__}
    if isinstance(figures["interval"], list):
        figures["interval"] = tuple(figures["interval"])
    if mistyped(Comparison, figures) or not _small(figures.values()) or len(figures["interval"]) != 2:
        return None
    return Comparison(**figures)


def _small(values: Iterable[object]) -> bool:
    """Return whether float64 represents every integer exactly: JSON allows integers of any length."""
    return not any(isinstance(n, int) and abs(n) > EXACT for n in values)


def _positive(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value <= EXACT  # type: ignore[operator]
