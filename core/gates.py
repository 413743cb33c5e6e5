"""What a precision must keep of fp32's verdicts, and what a manifest tells of it: figures, limits and speed."""

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
MIN_INT8_SHARE = 0.8  # of the VAE's multiplications in int8; with fewer it is no int8 variant
MIN_INT8_SPEEDUP = 1.3  # over fp32 on some backend, or it is no int8 variant
AUTO_SPEEDUP = 0.9  # over fp32, that `auto` asks of a variant: what is left under 1 is what timing scatters by


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a precision may lose."""

    max_drop: float = MAX_DROP  # of macro AUC
    min_agreement: float = MIN_AGREEMENT
    confident_only: bool = True  # agreement counts on images whose fp32 margin is above the median; else on all
    spare: int = 0  # images that may disagree however few there are: a share finer than one image can't be measured


# One near tie among 900 validation images is 99.89 %, and says nothing against 99.9 %.
FP16_LIMITS = Limits(max_drop=MAX_DROP_FP16, min_agreement=MIN_AGREEMENT_FP16, confident_only=False, spare=1)
LIMITS: Mapping[str, Limits] = {"fp32": FP16_LIMITS, "fp16": FP16_LIMITS, "int8": Limits()}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant beside fp32 on the same images."""

    images: int
    macro_auc: float
    macro_auc_drop: float  # fp32 less variant; negative: the variant is better
    agreement: float  # share of images with the same likeliest class
    agreement_confident: float  # the same where the fp32 margin is above its median
    verdict_agreement: float  # share with the same kind of verdict (real, generator, unknown, abstain)
    false_alarms: int
    real_faces: int
    interval: tuple[int, ...]  # two: the 95 % prediction interval of the false alarms on new faces

    @property
    def inside_interval(self) -> bool:
        """Whether the false alarms lie in their prediction interval."""
        return self.false_alarms <= self.interval[1]

    def failures(self, limits: Limits) -> tuple[str, ...]:
        """Why the gate does not hold; empty when it does."""
        agreement = self.agreement_confident if limits.confident_only else self.agreement
        where = "images with a margin above the median" if limits.confident_only else "all images"
        found = []
        if not self.macro_auc_drop <= limits.max_drop:
            found.append(f"macro AUC falls by {self.macro_auc_drop:.4f}, more than {limits.max_drop:g}")
        spared = limits.spare > 0 and (1.0 - agreement) * self.images < limits.spare + 0.5
        if not (agreement >= limits.min_agreement or spared):
            found.append(f"{agreement:.2%} of labels agree on {where}, fewer than {limits.min_agreement:.1%}")
        if not self.inside_interval:
            found.append(f"{self.false_alarms} false alarms, more than the {self.interval[1]} of the stated rate")
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with one entry a field."""
        return {**asdict(self), "interval": list(self.interval)}


@dataclass(frozen=True)
class Speedup:
    """fp32's time over a variant's, of N pairs of calls."""

    median: float  # of the pairs' ratios
    low: float  # 95 % interval of that median; a rule asks this end of it
    high: float
    pairs: int

    @property
    def may_be_slower(self) -> bool:
        """Whether `auto` passes over it: it may take longer than fp32, beyond what timing scatters by."""
        return not self.low >= AUTO_SPEEDUP

    def to_json(self) -> dict[str, Any]:
        """Entries of a backend's gate in the manifest."""
        return {"speedup": self.median, "speedup_interval": [self.low, self.high], "speedup_pairs": self.pairs}

    @classmethod
    def from_json(cls, gate: Mapping[str, Any]) -> Speedup:
        """Read what `to_json` wrote into a backend's gate; `UNCHANGED` where nothing of the format tells.

        Without an interval it is as sure as its median.
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


UNCHANGED = Speedup(1.0, 1.0, 1.0, 0)  # fp32 beside itself


def share_failures(share: float) -> tuple[str, ...]:
    """Why a variant with this `share` of the VAE's multiplications in int8 is no int8 variant; empty when it is one.

    NaN where nothing tells of it.
    """
    if share >= MIN_INT8_SHARE:
        return ()
    if math.isnan(share):
        return ("nothing tells which share of the VAE's multiplications is in int8",)
    return (f"{share:.1%} of the VAE's multiplications are in int8, under {MIN_INT8_SHARE:.0%}",)


def speed_failures(speedups: Sequence[Speedup]) -> tuple[str, ...]:
    """Why a variant as fast as these, at least one, is no int8 variant; empty when it is one."""
    best = max(speedups, key=lambda times: times.low)
    if best.low >= MIN_INT8_SPEEDUP:
        return ()
    return (f"int8 is at best {best}, where the lower figure must be {MIN_INT8_SPEEDUP:g}",)


def gate_to_json(found: Comparison, limits: Limits, times: Speedup) -> dict[str, Any]:
    """A backend's gate as the manifest holds it: its figures, the limits they are held against, and what came of it."""
    told = {"limits": asdict(limits), "passed": not found.failures(limits)}
    return {**found.to_json(), **told, **times.to_json()}


def gate_holds(precision: str, gate: Mapping[str, Any]) -> bool:
    """Whether a backend's gate in a manifest says that it passed, and its figures bear that out.

    A gate without all of its figures did not pass. They are held against the limits that stand beside them, or the
    precision's own where none do.
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
    """The figures of a backend's gate in a manifest; None where they are not all there, or not of the format."""
    figures: dict[str, Any] = {name: gate.get(name) for name in Comparison.__dataclass_fields__}
    if isinstance(figures["interval"], list):
        figures["interval"] = tuple(figures["interval"])
    if mistyped(Comparison, figures) or not _small(figures.values()) or len(figures["interval"]) != 2:
        return None
    return Comparison(**figures)


def _small(values: Iterable[object]) -> bool:
    """Whether every whole number among them is a float too: JSON holds integers of any length."""
    return not any(isinstance(n, int) and abs(n) > EXACT for n in values)


def _positive(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value <= EXACT  # type: ignore[operator]
