"""How good a detector is, from verdicts and labels: closed set, open set and the decision itself.

The verdicts may come from a training run or from a bundle on any backend. Closed and open images must have gone
through the same path: an open set that is read, cropped or encoded differently is separated by that alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score

from ..core.decision import KINDS, Decision
from ..core.errors import DataError
from ..core.spec import ModelSpec
from ..core.verdict import Verdict
from .metrics import Doubles, expected_calibration_error, open_set_classification_rate, separation
from .thresholds import alarm_interval, allowed_alarms


@dataclass(frozen=True)
class ClosedResults:
    """The judged images of known classes, N of them, as arrays."""

    probabilities: Doubles  # [N, K]
    labels: npt.NDArray[np.int64]  # [N] class indices
    log_density: Doubles  # [N]
    kinds: tuple[str, ...]  # [N] real, generator, unknown or abstain
    class_names: tuple[str, ...]  # K

    @property
    def predicted(self) -> npt.NDArray[np.int64]:
        """[N] the likeliest class of each image."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def confidence(self) -> Doubles:
        """[N] probability of the likeliest class."""
        return np.asarray(self.probabilities.max(axis=1), np.float64)


@dataclass(frozen=True)
class OpenResults:
    """The judged images of makers that training never saw, N of them."""

    confidence: Doubles  # [N] probability of the likeliest class
    log_density: Doubles  # [N]
    kinds: tuple[str, ...]  # [N]


@dataclass(frozen=True)
class ClosedMetrics:
    """Attribution among the known classes; abstentions and unknowns count by their likeliest class here."""

    images: int
    macro_auc: float  # mean over classes of the one-vs-rest area under the ROC curve
    per_class_auc: Mapping[str, float]
    top1: float
    balanced_accuracy: float  # mean recall over classes
    confusion: tuple[tuple[int, ...], ...]  # [true class][likeliest class], counts
    ece: float  # expected calibration error of the likeliest class's probability, 15 bins of equal width
    verdicts: Mapping[str, int]  # kind to count


@dataclass(frozen=True)
class DecisionMetrics:
    """What the shipped thresholds do, abstentions and all."""

    false_alarm_rate: float  # share of real faces called generator or unknown
    false_alarm_target: float  # the rate that the thresholds were fitted at
    false_alarm_count: int
    real_faces: int
    interval: tuple[int, int]  # 95 % prediction interval of the count, ends included
    inside_interval: bool
    coverage: float  # share of all closed images that are not abstained on
    coverage_real: float  # share of real faces that are not abstained on
    generated_called_generated: float  # share of generated faces called generator or unknown
    generated_called_real: float


@dataclass(frozen=True)
class OpenMetrics:
    """Unseen makers against known classes.

    Ranked by the probability of the likeliest class, the better of what was tried (Hendrycks & Gimpel, ICLR 2017): with
    three closed classes at a time left out of training its mean AUROC was 0.638, that of the log-density 0.594, that of
    their standardised sum 0.629. The decision's "unknown" asks the log-density, whose figures stand beside it.
    """

    images: int
    auroc: float
    fpr95: float  # share of open images taken for known when 95 % of closed images are
    oscr: float  # area under correct classification of known over acceptance of open images
    auroc_density: float
    fpr95_density: float
    called_generated: float  # share of open images called generator or unknown
    called_real: float
    verdicts: Mapping[str, int]


@dataclass(frozen=True)
class Evaluation:
    """All figures of one evaluation."""

    closed: ClosedMetrics
    decision: DecisionMetrics
    open: OpenMetrics | None  # None: no open set was given
    failed: int  # images, closed and open, that could not be judged and count nowhere

    def to_json(self) -> dict[str, Any]:
        """One flat JSON object; the open set's figures are null when there was none."""
        closed, decision, open_set = self.closed, self.decision, self.open
        return {
            "images": closed.images,
            "failed": self.failed,
            "macro_auc": closed.macro_auc,
            "per_class_auc": dict(closed.per_class_auc),
            "top1": closed.top1,
            "balanced_accuracy": closed.balanced_accuracy,
            "confusion": [list(row) for row in closed.confusion],
            "class_names": list(closed.per_class_auc),
            "ece": closed.ece,
            "verdicts": dict(closed.verdicts),
            "false_alarm_rate": decision.false_alarm_rate,
            "false_alarm_target": decision.false_alarm_target,
            "false_alarm_count": decision.false_alarm_count,
            "false_alarm_interval": list(decision.interval),
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
            "open_called_generated": open_set.called_generated if open_set else None,
            "open_called_real": open_set.called_real if open_set else None,
            "open_verdicts": dict(open_set.verdicts) if open_set else None,
        }


def evaluate(
    closed: Sequence[Verdict],
    labels: Sequence[str],
    open_set: Sequence[Verdict],
    spec: ModelSpec,
    decision: Decision,
) -> Evaluation:
    """Evaluate verdicts on closed images with their class names, and on open images (empty: no open set).

    Raises DataError for a class that the model does not know, a class without a judged image, or an open set of
    which nothing could be judged.
    """
    known = closed_results(closed, labels, spec)
    unseen = open_results(open_set)
    failed = len(closed) - len(known.labels) + len(open_set) - len(unseen.log_density)
    return Evaluation(
        closed_metrics(known),
        decision_metrics(known, spec, decision),
        open_metrics(known, unseen) if open_set else None,
        failed,
    )


def closed_results(verdicts: Sequence[Verdict], labels: Sequence[str], spec: ModelSpec) -> ClosedResults:
    """The judged verdicts as arrays, one label each. Raises DataError as `evaluate` does."""
    check_classes(labels, spec)
    pairs = [(v, label) for v, label in zip(verdicts, labels, strict=True) if _judged(v)]
    missing = set(spec.class_names) - {label for _, label in pairs}
    if missing:
        raise DataError(
            f"no image of {', '.join(sorted(missing))} could be judged; every class needs at least one to be measured"
        )
    shares = np.array([[v.scores[name] for name in spec.class_names] for v, _ in pairs], np.float64)
    indices = np.array([spec.class_names.index(label) for _, label in pairs], np.int64)
    density = np.array([v.log_density for v, _ in pairs], np.float64)
    return ClosedResults(shares, indices, density, tuple(str(v.verdict) for v, _ in pairs), spec.class_names)


def check_classes(labels: Sequence[str], spec: ModelSpec) -> None:
    """Raises DataError when the classes of the data are not those of the model."""
    unknown = sorted(set(labels) - set(spec.class_names))
    if unknown:
        raise DataError(
            f"the model was not trained on {', '.join(unknown)}; it knows {', '.join(spec.class_names)}. "
            "Give images of other makers with --open FOLDER"
        )
    missing = [name for name in spec.class_names if name not in set(labels)]
    if missing:
        raise DataError(f"the data has no image of {', '.join(missing)}; every class of the model is needed")


def open_results(verdicts: Sequence[Verdict]) -> OpenResults:
    """The judged verdicts of an open set. Raises DataError when there are verdicts but none was judged."""
    judged = [v for v in verdicts if _judged(v)]
    if verdicts and not judged:
        raise DataError(f"no image of the open set could be judged; the first: {verdicts[0].error}")
    confidence = np.array([max(v.scores.values()) for v in judged], np.float64)
    density = np.array([v.log_density for v in judged], np.float64)
    return OpenResults(confidence, density, tuple(str(v.verdict) for v in judged))


def closed_metrics(results: ClosedResults) -> ClosedMetrics:
    """Attribution metrics of the closed set."""
    shares, labels, predicted = results.probabilities, results.labels, results.predicted
    names = results.class_names
    per_class = {name: float(roc_auc_score(labels == k, shares[:, k])) for k, name in enumerate(names)}
    confusion = confusion_matrix(labels, predicted, labels=np.arange(len(names)))
    return ClosedMetrics(
        images=len(labels),
        macro_auc=float(np.mean(list(per_class.values()))),
        per_class_auc=per_class,
        top1=float((predicted == labels).mean()),
        balanced_accuracy=float(balanced_accuracy_score(labels, predicted)),
        confusion=tuple(tuple(int(n) for n in row) for row in confusion),
        ece=expected_calibration_error(results.confidence, predicted == labels),
        verdicts=_count(results.kinds),
    )


def decision_metrics(results: ClosedResults, spec: ModelSpec, decision: Decision) -> DecisionMetrics:
    """What the thresholds do on the closed set."""
    kinds = np.array(results.kinds)
    real = results.labels == spec.real_index
    alarmed, abstained = np.isin(kinds, ("generator", "unknown")), kinds == "abstain"
    count, faces = int((alarmed & real).sum()), int(real.sum())
    interval = _interval(decision, faces)
    return DecisionMetrics(
        false_alarm_rate=count / faces,
        false_alarm_target=decision.false_alarm_rate,
        false_alarm_count=count,
        real_faces=faces,
        interval=interval,
        inside_interval=interval[0] <= count <= interval[1],
        coverage=float(1.0 - abstained.mean()),
        coverage_real=float(1.0 - abstained[real].mean()),
        generated_called_generated=float(alarmed[~real].mean()),
        generated_called_real=float((kinds == "real")[~real].mean()),
    )


def open_metrics(closed: ClosedResults, unseen: OpenResults) -> OpenMetrics:
    """Open-set metrics of a closed and an open set that took the same path."""
    kinds = np.array(unseen.kinds)
    auroc, fpr95 = separation(closed.confidence, unseen.confidence)
    auroc_density, fpr95_density = separation(closed.log_density, unseen.log_density)
    return OpenMetrics(
        images=len(kinds),
        auroc=auroc,
        fpr95=fpr95,
        oscr=open_set_classification_rate(
            closed.confidence[closed.predicted == closed.labels], unseen.confidence, len(closed.labels)
        ),
        auroc_density=auroc_density,
        fpr95_density=fpr95_density,
        called_generated=float(np.isin(kinds, ("generator", "unknown")).mean()),
        called_real=float((kinds == "real").mean()),
        verdicts=_count(unseen.kinds),
    )


def _interval(decision: Decision, faces: int) -> tuple[int, int]:
    """The interval of the stated rate; where thresholds alarm on fewer faces than allowed it begins at 0."""
    allowed = allowed_alarms(decision.false_alarm_rate, decision.validation_real)
    low, high = alarm_interval(allowed, decision.validation_real, faces)
    return (low if decision.validation_alarms >= allowed else 0), high


def _judged(verdict: Verdict) -> bool:
    return verdict.error is None and all(map(math.isfinite, (verdict.log_density, *verdict.scores.values())))


def _count(kinds: Sequence[str]) -> dict[str, int]:
    counted = Counter(kinds)
    return {kind: counted[kind] for kind in KINDS}
