"""Evaluation of a detector from verdicts and labels: closed set, open set and decision.

The verdicts may come from a training run or from a bundle on any backend. Closed and open images must take the same
path: if the open set is read, cropped or encoded differently, the difference itself separates them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from ..core.decision import KINDS, Decision
from ..core.errors import DataError
from ..core.spec import ModelSpec
from ..core.verdict import Verdict
from .metrics import Doubles, class_auc, expected_calibration_error, macro_auc, open_set_classification_rate, separation
from .thresholds import alarm_interval, allowed_alarms


@dataclass(frozen=True, kw_only=True)
class ClosedResults:
    """Results of N classified images of known classes."""

    probabilities: Doubles  # [N, K]
    labels: npt.NDArray[np.int64]  # [N] class indices
    log_density: Doubles  # [N]
    kinds: tuple[str, ...]  # [N] real, generator, unknown or abstain
    class_names: tuple[str, ...]  # K

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """The likeliest class of each image: int64 [N]."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def confidence(self) -> Doubles:
        """The probability of the likeliest class: float64 [N]."""
        return np.asarray(self.probabilities.max(axis=1), np.float64)

    @property
    def missing(self) -> tuple[str, ...]:
        """The classes without images."""
        present = set(self.labels.tolist())
        return tuple(name for k, name in enumerate(self.class_names) if k not in present)


@dataclass(frozen=True)
class OpenResults:
    """Results of N classified images of generators that are not among the known classes."""

    confidence: Doubles  # [N] probability of the likeliest class
    log_density: Doubles  # [N]
    kinds: tuple[str, ...]  # [N]


@dataclass(frozen=True, kw_only=True)
class ClosedMetrics:
    """Attribution among the known classes. Abstentions and unknowns count by their likeliest class.

    A metric is None if a class that it needs has no classified image.
    """

    images: int
    macro_auc: float | None  # mean over classes of the one-vs-rest area under the ROC curve
    per_class_auc: Mapping[str, float | None]  # against the other classes that have images
    recall: Mapping[str, float | None]  # share of each class's images whose likeliest class is right
    top1: float
    balanced_accuracy: float | None  # mean recall over classes
    confusion: tuple[tuple[int, ...], ...]  # [true class][likeliest class], counts
    ece: float  # expected calibration error of the likeliest class's probability, 15 bins of equal width
    verdicts: Mapping[str, int]  # kind to count


@dataclass(frozen=True, kw_only=True)
class DecisionMetrics:
    """Results of the fitted thresholds, abstentions included. A metric is None if it has no images."""

    false_alarm_rate: float | None  # share of real faces classified as generator or unknown
    false_alarm_target: float  # the rate that the thresholds were fitted for
    false_alarm_count: int
    real_faces: int
    interval: tuple[int, int] | None  # 95 % prediction interval of the count, ends included
    inside_interval: bool | None
    coverage: float  # share of closed images with another verdict than abstain
    coverage_real: float | None  # share of real faces with another verdict than abstain
    generated_called_generated: float | None  # share of generated faces classified as generator or unknown
    generated_called_real: float | None  # share of generated faces classified as real


@dataclass(frozen=True, kw_only=True)
class OpenMetrics:
    """Separation of unseen generators from known classes.

    `auroc`, `fpr95` and `oscr` rank images by the probability of the likeliest class (Hendrycks & Gimpel, ICLR 2017).
    The `_density` metrics rank by log-density, which the verdict "unknown" is based on. A metric is None if a known
    class has no classified image.
    """

    images: int
    auroc: float | None
    fpr95: float | None  # share of open images accepted as known when 95 % of closed images are
    oscr: float | None  # area under correct classification of known over acceptance of open images
    auroc_density: float | None
    fpr95_density: float | None
    auroc_real: float | None  # of real faces against open images, by P(generated)
    called_generated: float  # share of open images classified as generator or unknown
    called_real: float  # share of open images classified as real
    verdicts: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All metrics of one evaluation."""

    closed: ClosedMetrics
    decision: DecisionMetrics
    open: OpenMetrics | None  # None without an open set
    failed: int  # closed and open images that could not be classified; excluded from all metrics
    missing: tuple[str, ...] = ()  # classes without a classified image; metrics that need them are None

    @property
    def not_measured(self) -> str:
        """Why metrics are None; empty if no class is missing."""
        return f"no image of {', '.join(self.missing)} was classified" if self.missing else ""

    def to_json(self) -> dict[str, Any]:
        """Return one flat JSON object. Metrics that were not measured are null."""
        closed, decision, open_set = self.closed, self.decision, self.open
        return {
            "images": closed.images,
            "failed": self.failed,
            "macro_auc": closed.macro_auc,
            "per_class_auc": dict(closed.per_class_auc),
            "recall": dict(closed.recall),
            "not_measured": self.not_measured or None,
            "top1": closed.top1,
            "balanced_accuracy": closed.balanced_accuracy,
            "confusion": [list(row) for row in closed.confusion],
            "class_names": list(closed.per_class_auc),
            "ece": closed.ece,
            "verdicts": dict(closed.verdicts),
            "false_alarm_rate": decision.false_alarm_rate,
            "false_alarm_target": decision.false_alarm_target,
            "false_alarm_count": decision.false_alarm_count,
            "false_alarm_interval": None if decision.interval is None else list(decision.interval),
            "false_alarm_inside_interval": decision.inside_interval,
            "real_faces": decision.real_faces,
            "coverage": decision.coverage,
            "coverage_real": decision.coverage_real,
            "generated_called_generated": decision.generated_called_generated,
            "generated_called_real": decision.generated_called_real,
            "open_images": open_set.images if open_set else 0,
            "open_auroc": open_set.auroc if open_set else None,
            "open_fpr95": open_set.fpr95 if open_set else None,
            "oscr": open_set.oscr if open_set else None,
            "open_auroc_density": open_set.auroc_density if open_set else None,
            "open_fpr95_density": open_set.fpr95_density if open_set else None,
            "open_auroc_real": open_set.auroc_real if open_set else None,
            "open_called_generated": open_set.called_generated if open_set else None,
            "open_called_real": open_set.called_real if open_set else None,
            "open_verdicts": dict(open_set.verdicts) if open_set else None,
        }


def evaluate(
    closed: Sequence[Verdict],
    labels: Sequence[str],
    open_set: Sequence[Verdict],
    *,
    spec: ModelSpec,
    decision: Decision,
) -> Evaluation:
    """Evaluate verdicts on closed images, whose class names are `labels`, and on open images (may be empty).

    Metrics that need a class without images are None. Raises DataError for a class that the model does not know, if no
    closed image could be classified, or if no image of a non-empty open set could be classified.
    """
    known = closed_results(closed, labels, spec)
    unseen = open_results(open_set)
    failed = len(closed) - len(known.labels) + len(open_set) - len(unseen.log_density)
    return Evaluation(
        closed=closed_metrics(known),
        decision=decision_metrics(known, spec, decision),
        open=open_metrics(known, unseen, auroc_real=_real_against(closed, labels, open_set, spec=spec))
        if open_set
        else None,
        failed=failed,
        missing=known.missing,
    )


def closed_results(verdicts: Sequence[Verdict], labels: Sequence[str], spec: ModelSpec) -> ClosedResults:
    """Return the successful verdicts as arrays, with their labels. Raises DataError as `evaluate` does."""
    check_classes(labels, spec)
    pairs = [(v, label) for v, label in zip(verdicts, labels, strict=True) if _succeeded(v)]
    if not pairs:
        first = f"; first error: {verdicts[0].error}" if verdicts else ""
        raise DataError(f"no image of a known class could be classified{first}")
    shares = np.array([[v.scores[name] for name in spec.class_names] for v, _ in pairs], np.float64)
    indices = np.array([spec.class_names.index(label) for _, label in pairs], np.int64)
    density = np.array([v.log_density for v, _ in pairs], np.float64)
    return ClosedResults(
        probabilities=shares,
        labels=indices,
        log_density=density,
        kinds=tuple(str(v.verdict) for v, _ in pairs),
        class_names=spec.class_names,
    )


def check_classes(labels: Sequence[str], spec: ModelSpec) -> None:
    """Raise DataError for a class that the model does not know."""
    unknown = sorted(set(labels) - set(spec.class_names))
    if unknown:
        raise DataError(
            f"the model was not trained on {', '.join(unknown)}; it knows {', '.join(spec.class_names)}. "
            "Pass images of other generators with --open FOLDER"
        )


def open_results(verdicts: Sequence[Verdict]) -> OpenResults:
    """Return the successful verdicts of an open set. Raises DataError if there are verdicts but none succeeded."""
    succeeded = [v for v in verdicts if _succeeded(v)]
    if verdicts and not succeeded:
        raise DataError(f"no image of the open set could be classified; first error: {verdicts[0].error}")
    confidence = np.array([max(v.scores.values()) for v in succeeded], np.float64)
    density = np.array([v.log_density for v in succeeded], np.float64)
    return OpenResults(confidence, density, tuple(str(v.verdict) for v in succeeded))


def closed_metrics(results: ClosedResults) -> ClosedMetrics:
    """Compute the attribution metrics of the closed set."""
    shares, labels, predicted = results.probabilities, results.labels, results.predicted
    names = results.class_names
    per_class = {name: class_auc(labels, shares, k) for k, name in enumerate(names)}
    recall = {name: _mean_or_none(predicted[labels == k] == k) for k, name in enumerate(names)}
    whole = not results.missing
    confusion = confusion_matrix(labels, predicted, labels=np.arange(len(names)))
    return ClosedMetrics(
        images=len(labels),
        macro_auc=macro_auc(labels, shares),
        per_class_auc=per_class,
        recall=recall,
        top1=float((predicted == labels).mean()),
        balanced_accuracy=float(balanced_accuracy_score(labels, predicted)) if whole else None,
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        ece=expected_calibration_error(results.confidence, predicted == labels),
        verdicts=_count(results.kinds),
    )


def decision_metrics(results: ClosedResults, spec: ModelSpec, decision: Decision) -> DecisionMetrics:
    """Compute the results of the thresholds on the closed set."""
    kinds = np.array(results.kinds)
    real = results.labels == spec.real_index
    alarmed, abstained = np.isin(kinds, ("generator", "unknown")), kinds == "abstain"
    count, faces = int((alarmed & real).sum()), int(real.sum())
    interval = _interval(decision, faces) if faces else None
    return DecisionMetrics(
        false_alarm_rate=count / faces if faces else None,
        false_alarm_target=decision.false_alarm_rate,
        false_alarm_count=count,
        real_faces=faces,
        interval=interval,
        inside_interval=None if interval is None else interval[0] <= count <= interval[1],
        coverage=float(1.0 - abstained.mean()),
        coverage_real=_mean_or_none(~abstained[real]),
        generated_called_generated=_mean_or_none(alarmed[~real]),
        generated_called_real=_mean_or_none((kinds == "real")[~real]),
    )


def open_metrics(closed: ClosedResults, unseen: OpenResults, *, auroc_real: float | None) -> OpenMetrics:
    """Compute open-set metrics. Both sets must have taken the same path."""
    kinds = np.array(unseen.kinds)
    auroc = fpr95 = auroc_density = fpr95_density = oscr = None
    if not closed.missing:
        auroc, fpr95 = separation(closed.confidence, unseen.confidence)
        auroc_density, fpr95_density = separation(closed.log_density, unseen.log_density)
        right = closed.confidence[closed.predicted == closed.labels]
        oscr = open_set_classification_rate(right, unseen.confidence, len(closed.labels))
    return OpenMetrics(
        images=len(kinds),
        auroc=auroc,
        fpr95=fpr95,
        oscr=oscr,
        auroc_density=auroc_density,
        fpr95_density=fpr95_density,
        auroc_real=auroc_real,
        called_generated=float(np.isin(kinds, ("generator", "unknown")).mean()),
        called_real=float((kinds == "real").mean()),
        verdicts=_count(unseen.kinds),
    )


def _real_against(
    closed: Sequence[Verdict], labels: Sequence[str], open_set: Sequence[Verdict], *, spec: ModelSpec
) -> float | None:
    """Return the AUROC of real faces against open images by P(generated); None without real faces."""
    real = [v for v, label in zip(closed, labels, strict=True) if label == spec.real_class and _succeeded(v)]
    unseen = [v for v in open_set if _succeeded(v)]
    if not real or not unseen:
        return None
    shares = [np.array([v.scores[spec.real_class] for v in part], np.float64) for part in (real, unseen)]
    return separation(shares[0], shares[1])[0]


def _mean_or_none(values: npt.NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if len(values) else None


def _interval(decision: Decision, faces: int) -> tuple[int, int]:
    """Return the prediction interval; it starts at 0 if the thresholds raise fewer alarms than allowed."""
    allowed = allowed_alarms(decision.false_alarm_rate, decision.validation_real)
    low, high = alarm_interval(allowed, decision.validation_real, faces)
    return (low if decision.validation_alarms >= allowed else 0), high


def _succeeded(verdict: Verdict) -> bool:
    return verdict.error is None and all(map(math.isfinite, (verdict.log_density, *verdict.scores.values())))


def _count(kinds: Sequence[str]) -> dict[str, int]:
    counted = Counter(kinds)
    return {kind: counted[kind] for kind in KINDS}
