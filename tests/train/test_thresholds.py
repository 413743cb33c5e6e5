"""Temperature, thresholds and the prediction interval of false alarms."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("scipy")
from leakrt.core.decision import judge, probabilities
from leakrt.core.errors import DataError, UsageError
from leakrt.core.spec import ModelSpec
from leakrt.train.thresholds import (
    COVERAGE,
    ValidationOutputs,
    alarm_interval,
    allowed_alarms,
    fit_decision,
    fit_temperature,
)

SPEC = ModelSpec(class_names=("gan", "real", "vae"), real_class="real")


def draw(seed: int, each: int = 90, separation: float = 1.5) -> ValidationOutputs:
    """Scores of three classes that overlap, with a density that knows nothing."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), each)
    scores = rng.standard_normal((3 * each, 3)).astype(np.float32)
    scores[np.arange(3 * each), labels] += separation
    return ValidationOutputs(scores, rng.standard_normal(3 * each) - 20.0, labels)


def kinds(outputs: ValidationOutputs, decision) -> np.ndarray:
    shares = probabilities(outputs.scores, decision.temperature)
    pairs = zip(shares, outputs.log_density, strict=True)
    return np.array([judge(p, float(d), SPEC, decision).kind for p, d in pairs])


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_at_most_the_allowed_real_faces_alarm(seed, rate):
    outputs = draw(seed)
    decision = fit_decision(outputs, SPEC, rate)
    found = kinds(outputs, decision)[outputs.labels == SPEC.real_index]
    alarms = int(np.isin(found, ("generator", "unknown")).sum())
    assert alarms == decision.validation_alarms == math.floor(rate * 91)
    assert decision.validation_real == 90


def test_new_real_faces_alarm_no_more_often_than_stated():
    rate, alarms, faces = 0.05, 0, 0
    for seed in range(40):
        decision = fit_decision(draw(seed), SPEC, rate)
        fresh = draw(1_000 + seed, each=200)
        found = kinds(fresh, decision)[fresh.labels == SPEC.real_index]
        alarms, faces = alarms + int(np.isin(found, ("generator", "unknown")).sum()), faces + len(found)
    share, spread = alarms / faces, math.sqrt(rate * (1 - rate) / (40 * 90))  # the validation sets' own noise
    assert rate - 4 * spread - 0.01 < share < rate + 3 * spread


@pytest.mark.parametrize("seed", range(3))
def test_coverage_of_real_faces_and_of_all_is_kept(seed):
    outputs = draw(seed)
    found = kinds(outputs, fit_decision(outputs, SPEC))
    real = outputs.labels == SPEC.real_index
    assert (found != "abstain").mean() >= COVERAGE - 1e-9
    assert (found[real] != "abstain").mean() >= COVERAGE - 1e-9
    assert (found == "abstain").any()


def test_abstaining_calls_fewer_generated_faces_real():
    outputs = draw(5)
    decision = fit_decision(outputs, SPEC)
    generated = 1.0 - probabilities(outputs.scores, decision.temperature)[:, SPEC.real_index]
    fake = outputs.labels != SPEC.real_index
    called_real = (kinds(outputs, decision) == "real")[fake].sum()
    assert called_real < (generated < decision.alarm_threshold)[fake].sum()


def test_classes_far_apart_leave_nothing_to_abstain_on_and_no_alarm():
    outputs = draw(0, separation=40.0)
    decision = fit_decision(outputs, SPEC)
    found = kinds(outputs, decision)
    assert decision.alarm_threshold == 0.5  # what is more likely real is never called generated
    assert (found == "abstain").sum() == 0


def test_density_may_take_half_of_the_alarms_at_most():
    outputs = draw(1)
    density = outputs.log_density.copy()
    density[outputs.labels == SPEC.real_index] -= 100.0  # every real face looks unlike training
    decision = fit_decision(ValidationOutputs(outputs.scores, density, outputs.labels), SPEC)
    unknown = (density < decision.density_threshold) & (outputs.labels == SPEC.real_index)
    assert unknown.sum() <= math.floor(0.05 * 91) // 2


def test_faces_with_the_same_score_never_exceed_the_allowance():
    outputs = draw(2)
    scores = np.round(outputs.scores)  # many ties
    tied = ValidationOutputs(scores, outputs.log_density, outputs.labels)
    decision = fit_decision(tied, SPEC)
    found = kinds(tied, decision)[tied.labels == SPEC.real_index]
    assert np.isin(found, ("generator", "unknown")).sum() <= 4


def test_temperature_recovers_the_scale_of_calibrated_scores():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((20_000, 4)) * 2.0
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(4, p=p) for p in shares])
    assert fit_temperature((logits * 3.0).astype(np.float32), labels) == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize(("rate", "faces", "allowed"), [(0.05, 19, 1), (0.05, 90, 4), (0.05, 99, 5), (0.29, 99, 29)])
def test_allowance_is_the_conformal_one(rate, faces, allowed):
    assert allowed_alarms(rate, faces) == allowed


def test_too_few_real_faces_are_refused_with_the_number_needed():
    with pytest.raises(DataError, match="at least 19 are needed"):
        allowed_alarms(0.05, 18)
    with pytest.raises(DataError, match="real"):
        fit_decision(draw(0, each=5), SPEC)


@pytest.mark.parametrize("rate", [0.0, -0.1, 0.5, 1.0, math.nan])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(UsageError, match="false-alarm rate"):
        allowed_alarms(rate, 90)


def test_interval_holds_the_stated_share_of_simulated_counts():
    rng = np.random.default_rng(0)
    low, high = alarm_interval(4, 90, 160)
    scores = rng.random((20_000, 90 + 160))
    thresholds = np.sort(scores[:, :90], axis=1)[:, -4]
    counts = (scores[:, 90:] >= thresholds[:, None]).sum(axis=1)
    inside = ((counts >= low) & (counts <= high)).mean()
    assert 0.95 - 0.005 <= inside <= 0.99


def test_interval_refuses_what_can_not_be():
    for arguments in ((0, 90, 160), (91, 90, 160), (4, 90, -1)):
        with pytest.raises(UsageError, match="interval"):
            alarm_interval(*arguments)


def test_values_that_are_not_finite_are_refused():
    outputs = draw(0)
    with pytest.raises(DataError, match="not finite"):
        ValidationOutputs(outputs.scores, np.full(270, np.nan), outputs.labels)
    with pytest.raises(DataError, match="no validation images"):
        ValidationOutputs(outputs.scores[:0], outputs.log_density[:0], outputs.labels[:0])
