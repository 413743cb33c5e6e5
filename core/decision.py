"""The decision rule: scores and a density to real, generator, unknown or abstain, at a stated false-alarm rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .bounds import UNSTATED, Bounds
from .errors import BundleError
from .fields import mistyped
from .spec import ModelSpec

Kind = Literal["real", "generator", "unknown", "abstain"]
_MAX_FACES = 2**31 - 1  # JSON holds integers of any length
KINDS: tuple[Kind, ...] = ("real", "generator", "unknown", "abstain")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One precision's block of `decision.json`, fitted on validation images only.

    In the comments below, `generated` is 1 - P(real class) after temperature scaling.
    """

    temperature: float  # scores are divided by it before the softmax
    alarm_threshold: float  # generated at or above: a generator
    real_threshold: float  # generated at or below: real; between the two: abstain
    density_threshold: float  # log-density below: unknown
    false_alarm_rate: float  # stated share of real faces classified as generator or unknown
    validation_real: int  # real faces that the thresholds were fitted on
    validation_alarms: int  # how many of them raise an alarm at these thresholds
    tolerance: Mapping[str, float] = field(default_factory=dict)  # backend to largest |score difference|
    bounds: Bounds = UNSTATED  # plausible ranges of the outputs

    def __post_init__(self) -> None:
        numbers = (self.temperature, self.alarm_threshold, self.real_threshold, self.density_threshold)
        if not all(map(math.isfinite, numbers)) or self.temperature <= 0:
            raise BundleError("decision: temperature and thresholds must be finite, the temperature positive")
        if not all(math.isfinite(x) and x > 0 for x in self.tolerance.values()):
            raise BundleError("decision: every tolerance must be finite and positive; export the bundle again")
        if self.real_threshold > self.alarm_threshold:
            raise BundleError("decision: the real threshold must not exceed the alarm threshold")
        if not 0 < self.false_alarm_rate < 1:
            raise BundleError("decision: the false-alarm rate must lie between 0 and 1")
        if not 0 <= self.validation_alarms <= self.validation_real <= _MAX_FACES:
            raise BundleError("decision: validation alarms must lie between 0 and the number of validation faces")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return {**asdict(self), "tolerance": dict(self.tolerance), "bounds": self.bounds.to_json()}

    @classmethod
    def from_json(cls, data: object) -> Decision:
        """Read the object that `to_json` returned; `bounds` is optional. Raises BundleError."""
        fields = cls.__dataclass_fields__.keys()
        if not isinstance(data, dict) or {"bounds", *data} != set(fields):
            raise BundleError(f"decision: the fields must be exactly {', '.join(fields)}; export the bundle again")
        tolerance = data["tolerance"]
        numbers = {k: v for k, v in data.items() if k not in ("tolerance", "bounds")}
        wrong = mistyped(cls, numbers)
        if not isinstance(tolerance, dict) or any(mistyped(cls, {"temperature": v}) for v in tolerance.values()):
            wrong.append("tolerance is not a number for each backend")
        if wrong:
            raise BundleError(f"decision: {'; '.join(wrong)}; export the bundle again")
        return cls(**{**data, "bounds": Bounds.from_json(data.get("bounds"))})


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The decision on one face and its reasons."""

    kind: Kind
    label: str  # a class name, or "unknown" or "abstain"
    probability: float  # of the label's class; for unknown and abstain, of the likeliest class
    reasons: tuple[str, ...]


def probabilities(scores: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    """Return softmax(scores / temperature), float64 [..., K], of scores float32 [..., K]."""
    scaled = scores.astype(np.float64) / temperature
    with np.errstate(invalid="ignore"):  # inf - inf: `judge` reports values that are not finite
        scaled -= scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(scaled)
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def judge(
    probability: npt.NDArray[np.float64], log_density: float, spec: ModelSpec, *, decision: Decision
) -> Judgement:
    """Classify one face from its class probabilities float64 [K] and the log-density of its embedding.

    Values that are not finite give "abstain". The density is tested first, because class probabilities mean nothing
    far from the training data.
    """
    if not (np.isfinite(probability).all() and math.isfinite(log_density)):
        return Judgement(
            kind="abstain", label="abstain", probability=0.0, reasons=("the network returned non-finite values",)
        )
    real = spec.real_index
    generated = float(1.0 - probability[real])
    top = float(probability.max())
    if log_density < decision.density_threshold:
        why = (
            f"log-density {log_density:.2f} is below {decision.density_threshold:.2f}: "
            "unlike every class seen in training"
        )
        return Judgement(kind="unknown", label="unknown", probability=top, reasons=(why,))
    if generated >= decision.alarm_threshold:
        others = np.where(np.arange(len(probability)) == real, -1.0, probability)
        best = int(others.argmax())
        why = f"P(generated) {generated:.3f} is at or above {decision.alarm_threshold:.3f}"
        return Judgement(
            kind="generator", label=spec.class_names[best], probability=float(probability[best]), reasons=(why,)
        )
    if generated <= decision.real_threshold:
        why = f"P(generated) {generated:.3f} is at or below {decision.real_threshold:.3f}"
        return Judgement(kind="real", label=spec.real_class, probability=float(probability[real]), reasons=(why,))
    why = (
        f"P(generated) {generated:.3f} lies between {decision.real_threshold:.3f} (real) "
        f"and {decision.alarm_threshold:.3f} (generator)"
    )
    return Judgement(kind="abstain", label="abstain", probability=top, reasons=(why,))
