"""The comparison of an acceptance test: how much a variant changes verdicts on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...core.acceptance import Changes, Comparison
from ...core.decision import Decision, probabilities
from ...core.errors import DataError
from ...core.judging import Judge, Origin, Subject
from ...core.outputs import LeakOutputs
from ...core.spec import ModelSpec
from ...core.support import Support
from ...train.density import support_log_density
from ...train.metrics import macro_auc
from ...train.thresholds import alarm_interval, allowed_alarms

_ALARMS = ("generator", "unknown")
_ERROR_QUANTILE = 0.99  # of images: a label counts where its fp32 margin exceeds this score error

Labels = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.str_]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Outputs and verdicts of one precision on N labelled images."""

    outputs: LeakOutputs  # averaged over draws
    labels: Labels  # [N]
    kinds: tuple[str, ...]  # [N] kinds of the verdicts
    probabilities: npt.NDArray[np.float64]  # [N, K]

    @property
    def predicted(self) -> Labels:
        """Index of the most probable class, int64 [N]."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @property
    def macro_auc(self) -> float:
        """Mean over classes of the one-vs-rest area under the ROC curve."""
        found = macro_auc(self.labels, self.probabilities)
        assert found is not None  # validation images have every class
        return found


def judge_all(outputs: LeakOutputs, labels: Labels, spec: ModelSpec, *, decision: Decision, support: Support) -> Judged:
    """Return the verdict on every row, decided as in the runtime."""
    density = support_log_density(support, outputs.embedding)
    judge = Judge(spec, decision, support, origin=Origin("", "", ""))
    kinds = [
        str(judge.verdict(Subject(path=""), outputs, i, log_density=float(density[i])).verdict)
        for i in range(len(labels))
    ]
    return Judged(
        outputs=outputs,
        labels=labels,
        kinds=tuple(kinds),
        probabilities=probabilities(outputs.scores, decision.temperature),
    )


def compare(reference: Judged, variant: Judged, spec: ModelSpec, *, decision: Decision) -> Comparison:
    """Compare a variant with fp32. Raises DataError for outputs that are not finite, or a class without an image."""
    if not np.isfinite(variant.probabilities).all():
        raise DataError("the variant returned values that are not finite; keep more of its layers in floating point")
    _check_labels(reference.labels, spec)
    same = reference.predicted == variant.predicted
    confident = margins(reference) > np.median(margins(reference))
    real = variant.labels == spec.real_index
    kinds = np.array(reference.kinds), np.array(variant.kinds)
    alarms = np.isin(kinds[1], _ALARMS) & real
    allowed = allowed_alarms(decision.false_alarm_rate, decision.validation_real, real_class=spec.real_class)
    return Comparison(
        images=len(same),
        macro_auc=variant.macro_auc,
        macro_auc_drop=reference.macro_auc - variant.macro_auc,
        agreement=float(same.mean()),
        agreement_confident=float(same[confident].mean()),
        verdict_agreement=float(np.mean(kinds[0] == kinds[1])),
        false_alarms=int(alarms.sum()),
        real_faces=int(real.sum()),
        interval=alarm_interval(allowed, decision.validation_real, int(real.sum())),
        changes=_changes(reference, variant, kinds),
    )


def score_error(reference: Judged, variant: Judged) -> float:
    """Return the 99th percentile, over images, of how far the variant moves a difference of two scores.

    For one image that is the largest difference between two of its K score errors (before temperature). A label can
    change only if it reaches the fp32 margin. An offset common to all scores of an image changes nothing, and does not
    count.
    """
    errors = variant.outputs.scores.astype(np.float64) - reference.outputs.scores
    return float(np.quantile(np.ptp(errors, axis=1), _ERROR_QUANTILE, method="lower"))


def _changes(reference: Judged, variant: Judged, kinds: tuple[Kinds, Kinds]) -> Changes:
    alarms, reals = (np.isin(k, _ALARMS) for k in kinds), (k == "real" for k in kinds)
    (alarm, alarm_then), (real, real_then) = alarms, reals
    error = score_error(reference, variant)
    ordered = np.sort(reference.outputs.scores.astype(np.float64), axis=1)
    counted = ordered[:, -1] - ordered[:, -2] > error
    return Changes(
        verdicts=int((kinds[0] != kinds[1]).sum()),
        crossings=int(((real & alarm_then) | (alarm & real_then)).sum()),
        score_error=error,
        counted=int(counted.sum()),
        labels=int((counted & (reference.predicted != variant.predicted)).sum()),
    )


def margins(judged: Judged) -> npt.NDArray[np.float64]:
    """Return the difference of the two highest probabilities, float64 [N]."""
    ordered = np.sort(judged.probabilities, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def _check_labels(labels: Sequence[int] | Labels, spec: ModelSpec) -> None:
    missing = [name for k, name in enumerate(spec.class_names) if k not in set(np.asarray(labels).tolist())]
    if missing:
        raise DataError(f"no validation image of {', '.join(missing)}; the acceptance test needs images of every class")
