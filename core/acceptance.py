"""Acceptance tests of variants against fp32: limits, measured figures and speed, as the manifest stores them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .binomial import clopper_pearson
from .earlier_acceptance import EARLIER_LIMITS, EarlierLimits
from .fields import EXACT, mistyped

MAX_DROP = 0.002  # macro AUC that int8 may lose
MAX_DROP_FP16 = 0.0005
MAX_IMAGES = 10_000_000  # of a record: the interval's time grows with the root of their number
MIN_INT8_SHARE = 0.8  # of the VAE's multiplications that an int8 variant must run in int8
MIN_INT8_SPEEDUP = 1.3  # over fp32 that an int8 variant must reach on at least one backend
AUTO_SPEEDUP = 0.9  # over fp32 that `auto` requires of a variant; below 1 to allow for timing noise


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of the acceptance test: how far a variant may deviate from fp32.

    A share is refused if the 95 % confidence interval of what was counted lies above it.
    """

    max_drop: float = MAX_DROP  # of macro AUC
    max_crossings: int = 0  # faces whose verdict goes from real to generator or unknown, or back
    max_changed: float = 0.05  # share of verdicts of another kind
    max_moved: float = 0.01  # share of other labels, of images whose fp32 margin exceeds the score error
    min_counted: float = 0.5  # least share of images whose fp32 margin exceeds the score error
    min_agreement: float = 0.99  # of labels, on the half of images with the largest fp32 margins

    def failures(self, found: Comparison) -> tuple[str, ...]:
        """Return why a comparison fails these limits; empty if it passes."""
        if found.changes is None:
            return ("the record does not say which verdicts change",)
        return (*found.lost(self.max_drop), *self._changed(found.changes, found), *found.alarmed())

    def _changed(self, changes: Changes, found: Comparison) -> Iterator[str]:
        if changes.crossings > self.max_crossings:
            yield f"{changes.crossings} faces go from real to generator or unknown, or back"
        yield from _above("verdicts change", changes.verdicts, found.images, limit=self.max_changed)
        counted = changes.counted / found.images
        if not counted >= self.min_counted:
            yield (
                f"the margin of fp32 exceeds the score error of {changes.score_error:.3g} on {counted:.1%} of images, "
                f"less than {self.min_counted:.0%}"
            )
        yield from _above("labels beyond the score error change", changes.labels, changes.counted, limit=self.max_moved)
        if not found.agreement_confident >= self.min_agreement:
            yield (
                f"{found.agreement_confident:.2%} of labels agree on images with a margin above the median, "
                f"less than {self.min_agreement:.1%}"
            )


FP16_LIMITS = Limits(max_drop=MAX_DROP_FP16, max_changed=0.005, max_moved=0.001, min_counted=0.95, min_agreement=0.999)
LIMITS: Mapping[str, Limits] = {"fp32": FP16_LIMITS, "fp16": FP16_LIMITS, "int8": Limits()}


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What a user sees change between fp32 and a variant on the same images."""

    verdicts: int  # images whose kind of verdict differs; from and to abstain included
    crossings: int  # of `verdicts`, between real and generator or unknown
    score_error: float  # 99th percentile over images of how far the variant moves a difference of two scores
    counted: int  # images whose two highest fp32 scores differ by more than `score_error`
    labels: int  # of `counted`, images whose likeliest class differs

    def possible(self, images: int) -> bool:
        """Return whether these are counts of `images` images."""
        verdicts, labels = 0 <= self.crossings <= self.verdicts <= images, 0 <= self.labels <= self.counted <= images
        return verdicts and labels and self.score_error >= 0.0


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
    changes: Changes | None = None  # None in a record of an earlier version

    @property
    def inside_interval(self) -> bool:
        """Whether the number of false alarms does not exceed its prediction interval."""
        return self.false_alarms <= self.interval[1]

    def failures(self, limits: Limits | EarlierLimits) -> tuple[str, ...]:
        """Return why the variant fails acceptance; empty if it passes."""
        return limits.failures(self)

    def lost(self, limit: float) -> tuple[str, ...]:
        """Return that macro AUC drops by more than `limit`; empty if it does not."""
        if self.macro_auc_drop <= limit:
            return ()
        return (f"macro AUC drops by {self.macro_auc_drop:.4f}, more than {limit:g}",)

    def alarmed(self) -> tuple[str, ...]:
        """Return that there are more false alarms than the stated rate allows; empty if there are not."""
        if self.inside_interval:
            return ()
        return (f"{self.false_alarms} false alarms, more than the {self.interval[1]} of the stated rate",)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field, without `changes` if there are none."""
        body = {**asdict(self), "interval": list(self.interval)}
        if self.changes is None:
            del body["changes"]
        return body


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
    limits of the precision if the record has none. A record without `changes` is of an earlier version, and its limits
    are `EarlierLimits`.
    """
    if gate.get("passed") is not True:
        return False
    found, limits = comparison_of(gate), _limits_of(precision, gate)
    return found is not None and limits is not None and not found.failures(limits)


def comparison_of(gate: Mapping[str, Any]) -> Comparison | None:
    """Return the figures of a backend's acceptance record in a manifest; None if any is missing or invalid."""
    figures: dict[str, Any] = {name: gate.get(name) for name in Comparison.__dataclass_fields__ if name != "changes"}
    if isinstance(figures["interval"], list):
        figures["interval"] = tuple(figures["interval"])
    if mistyped(Comparison, figures) or not _small(figures.values()) or len(figures["interval"]) != 2:
        return None
    if "changes" not in gate:
        return Comparison(**figures)
    changes, images = gate["changes"], figures["images"]
    if not _fits(Changes, changes) or not 0 < images <= MAX_IMAGES or not Changes(**changes).possible(images):
        return None
    return Comparison(**figures, changes=Changes(**changes))


def _limits_of(precision: str, gate: Mapping[str, Any]) -> Limits | EarlierLimits | None:
    """Return the limits of a record, by default those of the precision; None if they are invalid."""
    if "changes" in gate:
        stated = gate.get("limits", asdict(LIMITS[precision]))
        return Limits(**stated) if _fits(Limits, stated) else None
    stated = gate.get("limits", asdict(EARLIER_LIMITS[precision]))
    return EarlierLimits(**stated) if _fits(EarlierLimits, stated) else None


def _fits(cls: type, values: object) -> bool:
    """Return whether a JSON value holds exactly the fields of a dataclass, each of its type."""
    names = cls.__dataclass_fields__.keys()  # type: ignore[attr-defined]
    return isinstance(values, dict) and values.keys() == names and not mistyped(cls, values) and _small(values.values())


def _above(what: str, count: int, total: int, *, limit: float) -> Iterator[str]:
    """Yield that `count` of `total` is a share above `limit`, with 95 % confidence; nothing if it is not."""
    if count <= limit * total:
        return
    low, high = clopper_pearson(count, total)
    if not low <= limit:
        yield (
            f"{count} of {total} {what} ({count / total:.2%}; 95 % interval {low:.2%} to {high:.2%}), "
            f"more than {limit:.1%}"
        )


def _small(values: Iterable[object]) -> bool:
    """Return whether float64 represents every integer exactly: JSON allows integers of any length."""
    return not any(isinstance(n, int) and abs(n) > EXACT for n in values)


def _positive(value: object) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 < value <= EXACT  # type: ignore[operator]
