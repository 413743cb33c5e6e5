"""The gate: what a variant does to the verdict, measured on validation images, before it may be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from ..core.decision import Decision, probabilities
from ..core.errors import DataError
from ..core.judging import Judge, Origin, Subject
from ..core.outputs import LeakOutputs
from ..core.spec import ModelSpec
from ..core.support import Support
from ..train.density import support_log_density
from ..train.thresholds import alarm_interval, allowed_alarms

MAX_DROP = 0.002  # macro AUC that int8 may lose
MAX_DROP_FP16 = 0.0005
MIN_AGREEMENT = 0.99  # on images whose fp32 margin is above the median
MIN_AGREEMENT_FP16 = 0.999  # on all images

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Limits:
    """What a precision may lose."""

    max_drop: float = MAX_DROP  # of macro AUC
    min_agreement: float = MIN_AGREEMENT
    confident_only: bool = True  # agreement counts on images whose fp32 margin is above the median; else on all
    spare: int = 0  # images that may disagree however few there are: a share finer than one image can't be measured


# One near tie among 900 validation images is 99.89 %, and says nothing against 99.9 %.
FP16_LIMITS = Limits(MAX_DROP_FP16, MIN_AGREEMENT_FP16, confident_only=False, spare=1)


@dataclass(frozen=True)
class Judged:
    """One precision on N labelled images, with the decision that belongs to it."""

    outputs: LeakOutputs  # averaged over draws
    labels: Labels  # [N]
    kinds: tuple[str, ...]  # [N] of the verdicts
    probabilities: npt.NDArray[np.float64]  # [N, K]

    @property
    def predicted(self) -> Labels:
        """[N] the likeliest class."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def macro_auc(self) -> float:
        """Mean over classes of the one-vs-rest area under the ROC curve."""
        classes = range(self.probabilities.shape[1])
        return float(np.mean([roc_auc_score(self.labels == k, self.probabilities[:, k]) for k in classes]))


@dataclass(frozen=True)
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
    interval: tuple[int, int]  # 95 % prediction interval of the false alarms on new faces

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


def judge_all(outputs: LeakOutputs, labels: Labels, spec: ModelSpec, decision: Decision, support: Support) -> Judged:
    """Verdicts on every row, by the decision path that the runtime takes."""
    density = support_log_density(support, outputs.embedding)
    judge = Judge(spec, decision, support, Origin("", "", ""))
    kinds = [str(judge.verdict(Subject(""), outputs, i, float(density[i])).verdict) for i in range(len(labels))]
    return Judged(outputs, labels, tuple(kinds), probabilities(outputs.scores, decision.temperature))


def compare(reference: Judged, variant: Judged, spec: ModelSpec, decision: Decision) -> Comparison:
    """A variant against fp32. Raises DataError for outputs that are not finite, or a class without an image."""
    if not np.isfinite(variant.probabilities).all():
        raise DataError("the variant gave values that are not finite; keep more of its layers in floating point")
    _check_labels(reference.labels, spec)
    same = reference.predicted == variant.predicted
    confident = margins(reference) > np.median(margins(reference))
    real = variant.labels == spec.real_index
    alarms = np.isin(np.array(variant.kinds), ("generator", "unknown")) & real
    allowed = allowed_alarms(decision.false_alarm_rate, decision.validation_real, spec.real_class)
    return Comparison(
        images=len(same),
        macro_auc=variant.macro_auc,
        macro_auc_drop=reference.macro_auc - variant.macro_auc,
        agreement=float(same.mean()),
        agreement_confident=float(same[confident].mean()),
        verdict_agreement=float(np.mean(np.array(reference.kinds) == np.array(variant.kinds))),
        false_alarms=int(alarms.sum()),
        real_faces=int(real.sum()),
        interval=alarm_interval(allowed, decision.validation_real, int(real.sum())),
    )


def margins(judged: Judged) -> npt.NDArray[np.float64]:
    """[N] by how much the likeliest class's probability exceeds the next one's."""
    ordered = np.sort(judged.probabilities, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def _check_labels(labels: Sequence[int] | Labels, spec: ModelSpec) -> None:
    missing = [name for k, name in enumerate(spec.class_names) if k not in set(np.asarray(labels).tolist())]
    if missing:
        raise DataError(f"no validation image of {', '.join(missing)}; the gate needs images of every class")
