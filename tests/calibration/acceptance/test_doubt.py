"""A variant's thresholds keep its own error as their distance from faces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'leakrt[train]'")
from bundles import TINY_SPEC

from leakrt.calibration.acceptance.doubt import fit_with_doubt, widened
from leakrt.core.decision import Decision, probabilities
from leakrt.core.errors import DataError
from leakrt.core.outputs import LeakOutputs
from leakrt.core.support import Support

SPEC = replace(TINY_SPEC, class_names=("blocky", "real", "smooth"), embedding_dim=2)
NARROW = Decision(
    temperature=1.0,
    alarm_threshold=0.7,
    real_threshold=0.69,
    density_threshold=-20.0,
    false_alarm_rate=0.05,
    validation_real=40,
    validation_alarms=2,
)
LABELS = np.repeat([0, 1, 2], 60)
SUPPORT = Support(
    mean=np.zeros(2, np.float32),
    projection=np.eye(2, dtype=np.float32),
    points=np.zeros((1, 2), np.float32),
    bandwidth=1.0,
    prototypes=np.zeros((3, 2, 2), np.float32),
)


def outputs_of(seed=0, noise=0.0, by=1) -> LeakOutputs:
    """Scores of three classes that overlap, and `noise` on scores and embeddings from the generator `by`."""
    rng, moved = np.random.default_rng(seed), np.random.default_rng(by)
    scores = rng.normal(0, 1.0, (180, 3)) + 1.5 * np.eye(3)[LABELS] + noise * moved.normal(size=(180, 3))
    embedding = rng.normal(size=(180, 2)) + noise * moved.normal(size=(180, 2))
    blank = np.ones((180, 2), np.float32)
    return LeakOutputs(scores.astype(np.float32), embedding.astype(np.float32), blank, blank)


def fit(*found):
    return fit_with_doubt(outputs_of(), found, SPEC, support=SUPPORT, labels=LABELS, rate=0.05)


def test_a_band_that_is_wider_than_the_error_stays_as_it_is():
    assert widened(NARROW, 0.005, real=np.array([0.8]), unknown=1) is NARROW


def test_a_narrow_band_is_widened_to_the_error_on_both_sides_and_its_alarms_are_counted_again():
    found = widened(NARROW, 0.05, real=np.array([0.2, 0.71, 0.76]), unknown=1)
    assert (found.alarm_threshold, found.real_threshold) == pytest.approx((0.75, 0.65))
    assert (found.validation_real, found.validation_alarms) == (40, 2)  # 0.76, and one that is unknown


def test_a_real_threshold_that_is_low_enough_is_not_raised():
    found = widened(replace(NARROW, real_threshold=0.66), 0.05, real=np.empty(0), unknown=0)
    assert found.real_threshold == pytest.approx(0.65)
    assert widened(replace(NARROW, real_threshold=0.6), 0.05, real=np.empty(0), unknown=0).real_threshold == 0.6


@pytest.mark.parametrize("seed", range(5))
def test_noise_of_the_size_of_the_error_carries_no_face_across_both_thresholds(seed):
    """One set of noisy outputs sets the thresholds, and others of the same noise are judged with them."""
    noise = 0.02
    decision = fit(outputs_of(noise=noise, by=10 * seed + 1), outputs_of(noise=noise, by=10 * seed + 2))
    sides = []
    for other in (outputs_of(), outputs_of(noise=noise, by=10 * seed + 3)):
        generated = 1.0 - probabilities(other.scores, decision.temperature)[:, SPEC.real_index]
        sides.append(np.where(generated >= decision.alarm_threshold, 1, np.where(
            generated <= decision.real_threshold, -1, 0)))  # fmt: skip
    assert not (sides[0] * sides[1] < 0).any()


def test_every_set_of_outputs_must_be_finite():
    broken = outputs_of()
    broken.scores[3, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        fit(outputs_of(), broken)
