"""Thresholds of a variant that keep a distance from faces, as large as the variant's own error.

Thresholds lie close to the face that sets them. On another backend, or on a GPU, the outputs of the same variant are
off by its rounding error, which carries such faces across. A variant's thresholds therefore keep that error as their
margin. Where the band between its real and its alarm threshold is narrower than the error, rounding could carry a face
across both: the variant abstains there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ...core.decision import Decision, probabilities
from ...core.outputs import LeakOutputs
from ...core.spec import ModelSpec
from ...core.support import Support
from ...train.density import support_log_density
from ...train.thresholds import MARGIN, ValidationOutputs, fit_decision

_QUANTILE = 0.99  # of images, as for the score error

Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


def fit_with_doubt(
    exact: LeakOutputs,
    found: Sequence[LeakOutputs],
    spec: ModelSpec,
    *,
    support: Support,
    labels: Labels,
    rate: float,
) -> Decision:
    """Fit a variant's decision on N validation images with `labels` int64 [N], at the false-alarm rate `rate`.

    `exact`: outputs of fp32. `found`: those of the variant, on ONNX Runtime first; the thresholds are fitted on these,
    and the error is the largest of all. `support` is the variant's. Raises DataError for outputs that are not finite.
    """
    rows = [ValidationOutputs(o.scores, support_log_density(support, o.embedding), labels) for o in found]
    validation = rows[0]
    temperature = fit_decision(validation, spec, rate=rate).temperature
    wanted, exact_density = _generated(exact, temperature, spec), support_log_density(support, exact.embedding)
    error = max(_error(wanted, _generated(outputs, temperature, spec)) for outputs in found)
    density_error = max(_error(exact_density, row.log_density) for row in rows)
    decision = fit_decision(
        validation, spec, rate=rate, margin=max(MARGIN, error), density_margin=max(MARGIN, density_error)
    )
    real = labels == spec.real_index
    unknown = validation.log_density[real] < decision.density_threshold
    counted = _generated(found[0], temperature, spec)[real][~unknown]
    return widened(decision, error, real=counted, unknown=int(unknown.sum()))


def widened(decision: Decision, error: float, *, real: Doubles, unknown: int) -> Decision:
    """Return the decision with a band of at least `error` on both sides of its alarm threshold.

    A band that is wide enough stays as it is. `real` float64 [R] is 1 - P(real) of the real validation faces that the
    density test does not catch, and `unknown` the number of those that it does: the alarms are counted again.
    """
    threshold = decision.alarm_threshold
    if threshold - decision.real_threshold >= error:
        return decision
    return replace(
        decision,
        alarm_threshold=threshold + error,
        real_threshold=min(decision.real_threshold, threshold - error),
        validation_alarms=unknown + int((real >= threshold + error).sum()),
    )


def _generated(outputs: LeakOutputs, temperature: float, spec: ModelSpec) -> Doubles:
    """Return 1 - P(real class), float64 [N]."""
    return np.asarray(1.0 - probabilities(outputs.scores, temperature)[:, spec.real_index])


def _error(first: Doubles, second: Doubles) -> float:
    return float(np.quantile(np.abs(first - second), _QUANTILE, method="lower"))
