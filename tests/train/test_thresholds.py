"""Temperature, thresholds and the prediction interval of false alarms."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")
from leakrt.core.decision import judge, probabilities
from leakrt.core.errors import DataError, UsageError
from leakrt.core.spec import ModelSpec
from leakrt.train.thresholds import (
    COVERAGE,
    ValidationOutputs,
    _threshold_above,
    alarm_interval,
    allowed_alarms,
    fit_decision,
    fit_temperature,
)

SPEC = ModelSpec(class_names=("gan", "real", "vae"), real_class="real")


def draw(seed: int, each: int = 90, separation: float = 1.5) -> ValidationOutputs:
    """Scores of three overlapping classes, with an uninformative density."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), each)
    scores = rng.standard_normal((3 * each, 3)).astype(np.float32)
    scores[np.arange(3 * each), labels] += separation
    return ValidationOutputs(scores, rng.standard_normal(3 * each) - 20.0, labels)


def kinds(outputs: ValidationOutputs, decision) -> np.ndarray:
    shares = probabilities(outputs.scores, decision.temperature)
    pairs = zip(shares, outputs.log_density, strict=True)
    return np.array([judge(p, float(d), SPEC, decision=decision).kind for p, d in pairs])


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_at_most_the_allowed_number_of_real_faces_alarm(seed, rate):
    outputs = draw(seed)
    decision = fit_decision(outputs, SPEC, rate=rate)
    found = kinds(outputs, decision)[outputs.labels == SPEC.real_index]
    alarms = int(np.isin(found, ("generator", "unknown")).sum())
    assert alarms == decision.validation_alarms == math.floor(rate * 91)
    assert decision.validation_real == 90


def test_new_real_faces_alarm_no_more_often_than_stated():
    rate, alarms, faces = 0.05, 0, 0
    for seed in range(40):
        decision = fit_decision(draw(seed), SPEC, rate=rate)
        fresh = draw(1_000 + seed, each=200)
        found = kinds(fresh, decision)[fresh.labels == SPEC.real_index]
        alarms, faces = alarms + int(np.isin(found, ("generator", "unknown")).sum()), faces + len(found)
    share, spread = alarms / faces, math.sqrt(rate * (1 - rate) / (40 * 90))  # sampling noise of the validation sets
    assert rate - 4 * spread - 0.01 < share < rate + 3 * spread


@pytest.mark.parametrize("seed", range(3))
def test_the_coverage_of_real_faces_and_of_all_is_met(seed):
    outputs = draw(seed)
    found = kinds(outputs, fit_decision(outputs, SPEC))
    real = outputs.labels == SPEC.real_index
    assert (found != "abstain").mean() >= COVERAGE - 1e-9
    assert (found[real] != "abstain").mean() >= COVERAGE - 1e-9
    assert (found == "abstain").any()


def test_abstaining_classifies_fewer_generated_faces_as_real():
    outputs = draw(5)
    decision = fit_decision(outputs, SPEC)
    generated = 1.0 - probabilities(outputs.scores, decision.temperature)[:, SPEC.real_index]
    fake = outputs.labels != SPEC.real_index
    called_real = (kinds(outputs, decision) == "real")[fake].sum()
    assert called_real < (generated < decision.alarm_threshold)[fake].sum()


def test_well_separated_classes_cause_no_abstention_and_no_alarm():
    outputs = draw(0, separation=40.0)
    decision = fit_decision(outputs, SPEC)
    found = kinds(outputs, decision)
    assert decision.alarm_threshold == 0.5  # a face that is more likely real never raises an alarm
    assert (found == "abstain").sum() == 0


def test_density_may_use_at_most_half_of_the_alarms():
    outputs = draw(1)
    density = outputs.log_density.copy()
    density[outputs.labels == SPEC.real_index] -= 100.0  # every real face is far from the training images
    decision = fit_decision(ValidationOutputs(outputs.scores, density, outputs.labels), SPEC)
    unknown = (density < decision.density_threshold) & (outputs.labels == SPEC.real_index)
    assert unknown.sum() <= math.floor(0.05 * 91) // 2


def test_tied_scores_never_exceed_the_allowance():
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
def test_the_allowance_is_conformal(rate, faces, allowed):
    assert allowed_alarms(rate, faces) == allowed


def test_too_few_real_faces_are_refused_with_the_number_needed():
    with pytest.raises(DataError, match="at least 19 are needed"):
        allowed_alarms(0.05, 18)
    with pytest.raises(DataError, match="real"):
        fit_decision(draw(0, each=5), SPEC)


@pytest.mark.parametrize("faces", [2, 3, 6, 18, 500])
def test_the_suggested_rate_is_valid_for_that_number_of_faces(faces):
    with pytest.raises(DataError) as error:
        allowed_alarms(0.001, faces)
    advised = str(error.value).split("--false-alarm-rate ")[1].split()[0]
    assert allowed_alarms(float(advised), faces) == 1


@pytest.mark.parametrize("faces", [0, 1])
def test_no_rate_is_suggested_if_none_is_valid(faces):
    with pytest.raises(DataError, match=r"add more$"):
        allowed_alarms(0.05, faces)


@pytest.mark.parametrize("rate", [0.0, -0.1, 0.5, 1.0, math.nan])
def test_invalid_rates_are_refused(rate):
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


def test_the_interval_refuses_invalid_arguments():
    for arguments in ((0, 90, 160), (91, 90, 160), (4, 90, -1)):
        with pytest.raises(UsageError, match="interval"):
            alarm_interval(*arguments)


def test_values_that_are_not_finite_are_refused():
    outputs = draw(0)
    with pytest.raises(DataError, match="not finite"):
        ValidationOutputs(outputs.scores, np.full(270, np.nan), outputs.labels)
    with pytest.raises(DataError, match="no validation images"):
        ValidationOutputs(outputs.scores[:0], outputs.log_density[:0], outputs.labels[:0])


# Direct implementations, compared on arbitrary values with ties and adjacent floats.

settled = settings(deadline=None, max_examples=200)
neighbours = st.integers(-3, 3).map(lambda n: 0.7 + n * np.spacing(0.7))
values = st.lists(
    st.floats(-1e15, 1e15, allow_nan=False) | st.integers(0, 5).map(float) | neighbours, min_size=1, max_size=30
)


@settled
@given(values, st.integers(0, 35))
def test_a_threshold_is_reached_by_as_many_as_ties_allow_and_by_no_more(drawn, count):
    ordered = np.array(drawn)
    reached = int((ordered >= _threshold_above(ordered, count)).sum())
    possible = {sum(v >= t for v in drawn) for t in [*drawn, math.inf]}
    assert reached == max(n for n in possible if n <= count)


@settled
@given(st.lists(st.integers(0, 9999), min_size=4, max_size=40, unique=True), st.integers(1, 45))
def test_leave_one_out_alarms_stay_within_the_rate(places, percent):
    """The conformal guarantee: each of n + 1 exchangeable faces is tested once against the other n."""
    rate, faces = percent / 100, len(places) - 1
    assume(Fraction(percent, 100) * (faces + 1) >= 1)
    allowed = allowed_alarms(rate, faces)
    generated = np.array(places) * 1e-3  # wider than the margin of a threshold
    alarms = sum(generated[i] >= _threshold_above(np.delete(generated, i), allowed) for i in range(faces + 1))
    assert alarms <= Fraction(percent, 100) * (faces + 1)
    assert alarms == allowed


@settled
@given(st.integers(1, 499), st.integers(1, 3000))
def test_the_allowance_is_the_floor_of_rate_times_faces_and_one(thousandths, faces):
    exact = math.floor(Fraction(thousandths, 1000) * (faces + 1))
    if exact >= 1:
        assert allowed_alarms(thousandths / 1000, faces) == exact
        return
    with pytest.raises(DataError) as error:
        allowed_alarms(thousandths / 1000, faces)
    needed = math.ceil(1 / Fraction(thousandths, 1000)) - 1
    assert f"at least {needed} are needed" in str(error.value)
    assert allowed_alarms(thousandths / 1000, needed) == 1


def chances(alarms: int, validation: int, faces: int) -> list[Fraction]:
    """P(X = x) for x = 0 ... m, by counting the orders of n + m faces with x new ones above the k-th old one."""
    k, n, m = alarms, validation, faces
    ways = [math.comb(x + k - 1, x) * math.comb(m - x + n - k, m - x) for x in range(m + 1)]
    assert sum(ways) == math.comb(n + m, m)
    return [Fraction(w, sum(ways)) for w in ways]


@settled
@given(st.data())
def test_the_interval_matches_counted_probabilities(data):
    validation, faces = data.draw(st.integers(1, 60)), data.draw(st.integers(0, 60))
    alarms = data.draw(st.integers(1, validation))
    level = data.draw(st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99]))
    counted, tail = chances(alarms, validation, faces), (1 - Fraction(str(level))) / 2
    sums = [sum(counted[: x + 1]) for x in range(faces + 1)]
    assume(all(abs(s - t) > Fraction(1, 10**9) for s in sums for t in (tail, 1 - tail)))
    low, high = alarm_interval(alarms, validation, faces, level=level)
    assert low == next(x for x, s in enumerate(sums) if s >= tail)
    assert high == next(x for x, s in enumerate(sums) if s >= 1 - tail)
    assert sum(counted[low : high + 1]) >= Fraction(str(level))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_alarms_stay_within_the_allowance_and_coverage_is_met_for_any_scores(data):
    rate, each = data.draw(st.sampled_from([0.05, 0.1, 0.2])), data.draw(st.integers(20, 60))
    steps = data.draw(st.sampled_from([1, 8, 10**6]))  # few steps make many ties
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    labels = np.repeat(np.arange(3), each)
    scores = (np.round(rng.standard_normal((3 * each, 3)) * steps) / steps).astype(np.float32)
    outputs = ValidationOutputs(scores, np.round(rng.standard_normal(3 * each) * steps) / steps, labels)
    decision = fit_decision(outputs, SPEC, rate=rate)
    found = kinds(outputs, decision)
    real = labels == SPEC.real_index
    alarms = int(np.isin(found[real], ("generator", "unknown")).sum())
    assert alarms == decision.validation_alarms <= math.floor(Fraction(str(rate)) * (each + 1))
    assert (found == "abstain").mean() <= 1 - COVERAGE + 1e-9
    assert (found[real] == "abstain").mean() <= 1 - COVERAGE + 1e-9
    assert decision.real_threshold <= decision.alarm_threshold
