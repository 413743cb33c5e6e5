"""Fitting of a Decision to validation scores: temperature, density threshold, alarm threshold, abstain zone.

Only validation images are used. The alarm threshold is conformal (Vovk, Gammerman & Shafer, 2005): of n validation
real faces at most k = floor(rate (n + 1)) raise an alarm. A new real face, exchangeable with them, then raises one with
probability at most k / (n + 1) <= rate (except for faces within `margin` of the threshold).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.stats import betabinom

from ..core.decision import Decision, probabilities
from ..core.errors import DataError, UsageError
from ..core.spec import ModelSpec

FALSE_ALARM_RATE = 0.05
UNKNOWN_RATE = 0.01  # share of closed validation images that the density threshold classifies as unknown
COVERAGE = 0.85  # least share without abstention, both of real and of all validation images
MIN_ALARM_THRESHOLD = 0.5  # a face that is more likely real than generated never raises an alarm
MARGIN = 1e-4  # distance of a threshold from the face that sets it, so that float32 rounding can't cross it

Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ValidationOutputs:
    """Outputs for N closed validation images."""

    scores: npt.NDArray[np.float32]  # [N, K], averaged over draws, before temperature
    log_density: Doubles  # [N]
    labels: Labels  # [N] class indices

    def __post_init__(self) -> None:
        if len(self.labels) == 0:
            raise DataError("no validation images to fit thresholds on; add a val split to the data set")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.log_density).all()):
            raise DataError("the network's outputs on validation images are not finite; train it again")


def fit_decision(
    outputs: ValidationOutputs,
    spec: ModelSpec,
    *,
    rate: float = FALSE_ALARM_RATE,
    margin: float = MARGIN,
    density_margin: float = MARGIN,
) -> Decision:
    """Fit a Decision at a false-alarm rate.

    A threshold lies `margin` (of 1 - P(real)) or `density_margin` (of log-density) from the face that sets it, but not
    beyond the middle to the next face. Outputs that are off by less do not cross it.

    A false alarm is a real face classified as generator or unknown. The density test comes first (as in
    `core.decision.judge`) and may use half of the alarms that the rate allows; the alarm threshold uses the rest.

    Raises DataError if there are too few validation real faces for that rate, UsageError for an invalid rate.
    """
    allowed = allowed_alarms(rate, int((outputs.labels == spec.real_index).sum()), real_class=spec.real_class)
    real = outputs.labels == spec.real_index
    temperature = fit_temperature(outputs.scores, outputs.labels)
    generated = 1.0 - probabilities(outputs.scores, temperature)[:, spec.real_index]
    density_threshold = _density_threshold(outputs.log_density, real, allowed, margin=density_margin)
    unknown = outputs.log_density < density_threshold
    remaining = generated[real & ~unknown]
    left = allowed - int((real & unknown).sum())
    alarm = max(MIN_ALARM_THRESHOLD, _threshold_above(remaining, left, margin=margin))
    return Decision(
        temperature=temperature,
        alarm_threshold=alarm,
        real_threshold=_real_threshold(generated, real, unknown, alarm=alarm, margin=margin),
        density_threshold=density_threshold,
        false_alarm_rate=rate,
        validation_real=int(real.sum()),
        validation_alarms=int((real & unknown).sum() + (remaining >= alarm).sum()),
    )


def fit_temperature(scores: npt.NDArray[np.float32], labels: Labels) -> float:
    """Return the temperature that minimises the negative log-likelihood of `labels` (Guo et al., ICML 2017).

    The search covers exp(-4) to exp(4). Scores are float32 [N, K], labels int [N].
    """
    rows = np.arange(len(labels))

    def negative_log_likelihood(log_temperature: float) -> float:
        likelihood = probabilities(scores, math.exp(log_temperature))[rows, labels]
        return float(-np.log(np.maximum(likelihood, 1e-300)).mean())

    found = minimize_scalar(negative_log_likelihood, bounds=(-4.0, 4.0), method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def allowed_alarms(rate: float, faces: int, *, real_class: str = "real") -> int:
    """Return k = floor(rate (n + 1)), how many of n validation real faces may raise an alarm.

    Raises DataError if k is 0, UsageError for a rate outside (0, 0.5).
    """
    if not 0.0 < rate < 0.5:
        raise UsageError(f"false-alarm rate {rate:g}: it must be between 0 and 0.5, such as 0.05")
    allowed = math.floor(rate * (faces + 1) + 1e-9)  # 0.29 x 100 is 28.999...
    if allowed < 1:
        needed = math.ceil(1.0 / rate - 1e-9) - 1
        lowest = math.ceil(1000.0 / (faces + 1)) / 1000.0
        other = f", or export with --false-alarm-rate {lowest:g} or more" if lowest < 0.5 else ""
        raise DataError(
            f"{faces} validation images of class {real_class} are too few for a false-alarm rate of {rate:g}: "
            f"at least {needed} are needed; add more{other}"
        )
    return allowed


def alarm_interval(alarms: int, validation_faces: int, faces: int, *, level: float = 0.95) -> tuple[int, int]:
    """Return the prediction interval of the number of alarms among `faces` new real faces, both ends included.

    If k = `alarms` of n exchangeable validation faces reach the threshold, the count among m new ones is beta-binomial
    (m, k, n + 1 - k), since the coverage of a split-conformal set is beta (Vovk, 2012). The interval contains at least
    `level` of its mass.
    """
    if not (1 <= alarms <= validation_faces and faces >= 0 and 0 < level < 1):
        raise UsageError(f"no interval for {alarms} alarms among {validation_faces} faces and {faces} new ones")
    count = betabinom(faces, alarms, validation_faces + 1 - alarms)
    tail = (1.0 - level) / 2.0
    return int(count.ppf(tail)), int(count.ppf(1.0 - tail))


def _density_threshold(log_density: Doubles, real: npt.NDArray[np.bool_], allowed: int, *, margin: float) -> float:
    """Return the highest threshold with at most 1 % of all images and half of the allowed alarms below it."""
    among_all = math.floor(UNKNOWN_RATE * (len(log_density) + 1))
    highest = -_threshold_above(-log_density, among_all, margin=margin)
    among_real = -_threshold_above(-log_density[real], allowed // 2, margin=margin)
    return min(highest, among_real)


def _threshold_above(values: Doubles, count: int, *, margin: float = MARGIN) -> float:
    """Return the lowest threshold that at most `count` values reach, just below the smallest of these."""
    descending = np.sort(values)[::-1]
    last = min(count, len(descending))
    while 0 < last < len(descending) and descending[last - 1] == descending[last]:
        last -= 1
    if last == 0:
        return max(float(descending[0]) + margin, float(np.nextafter(descending[0], np.inf)))
    reached = float(descending[last - 1])
    gap = reached - float(descending[last]) if last < len(descending) else np.inf
    under = reached - min(gap / 2.0, margin)
    return under if last == len(descending) or under > descending[last] else reached  # they may be adjacent floats


def _real_threshold(
    generated: Doubles, real: npt.NDArray[np.bool_], unknown: npt.NDArray[np.bool_], *, alarm: float, margin: float
) -> float:
    """Return a threshold at which the coverage of real faces and of all images is at least `COVERAGE`.

    A lower threshold classifies fewer generated faces as real but abstains on more images. The result is therefore the
    lowest one with that coverage, raised as far as no further generated face is classified as real.
    """
    thresholds = []
    for group in (real, np.ones_like(real)):
        doubtful = np.sort(generated[group & ~unknown & (generated < alarm)])
        abstained = math.floor((1.0 - COVERAGE) * int(group.sum()) + 1e-9)
        thresholds.append(_below_last(doubtful, abstained, margin=margin))
    covering = max(thresholds)
    above = generated[~real & ~unknown & (generated > covering)]
    if len(above) == 0:
        return alarm
    following = float(above.min())
    under = following - min((following - covering) / 2.0, margin)
    return min(alarm, under if under < following else covering)


def _below_last(ascending: Doubles, count: int, *, margin: float = MARGIN) -> float:
    """Return a threshold with at most `count` values above it, just above the largest of the others."""
    first = len(ascending) - count  # how many are at or below it
    if first <= 0:
        return 0.0
    gap = float(ascending[first] - ascending[first - 1]) if first < len(ascending) else np.inf
    return float(ascending[first - 1]) + min(gap / 2.0, margin)
