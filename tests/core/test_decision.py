"""The decision rule, from scores and a density to a verdict."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leakrt.core.decision import KINDS, Decision, judge, probabilities
from leakrt.core.errors import BundleError
from leakrt.core.spec import ModelSpec

SPEC = ModelSpec(class_names=("gan", "real", "vae"), real_class="real")
DECISION = Decision(
    temperature=1.5,
    alarm_threshold=0.8,
    real_threshold=0.4,
    density_threshold=-20.0,
    false_alarm_rate=0.05,
    validation_real=100,
    validation_alarms=5,
    tolerance={"onnxruntime": 1e-4},
)


def verdict(*probability: float, log_density: float = -5.0):
    return judge(np.float64(probability), log_density, SPEC, decision=DECISION)


def test_probabilities_are_a_softmax_over_the_temperature():
    scores = np.float32([[1.0, 2.0, 4.0]])
    expected = np.exp(scores / 1.5) / np.exp(scores / 1.5).sum()
    np.testing.assert_allclose(probabilities(scores, 1.5), expected, rtol=1e-6)


def test_probabilities_stay_finite_for_huge_scores():
    assert probabilities(np.float32([3e38, -3e38]), 0.01).tolist() == [1.0, 0.0]


def test_below_the_real_threshold_it_is_real():
    assert verdict(0.2, 0.6, 0.2).kind == "real"  # P(generated) 0.4: at the threshold
    assert verdict(0.2, 0.6, 0.2).label == "real"
    assert verdict(0.2, 0.6, 0.2).probability == 0.6


def test_above_the_alarm_threshold_it_is_the_likeliest_generator():
    judged = verdict(0.5, 0.1, 0.4)
    assert (judged.kind, judged.label, judged.probability) == ("generator", "gan", 0.5)
    assert judged.reasons == ("P(generated) 0.900 is at or above 0.800",)


def test_an_alarm_names_a_generator_even_where_the_real_class_is_the_likeliest():
    spec = ModelSpec(class_names=("real", *"abcdefgh"), real_class="real")
    shares = np.float64([0.19, *[0.81 / 8] * 8])
    assert judge(shares, 0.0, spec, decision=DECISION).label == "a"


def test_between_the_thresholds_it_abstains_and_says_why():
    judged = verdict(0.3, 0.4, 0.3)
    assert (judged.kind, judged.label, judged.probability) == ("abstain", "abstain", 0.4)
    assert judged.reasons == ("P(generated) 0.600 lies between 0.400 (real) and 0.800 (generator)",)


def test_far_from_all_training_data_it_is_unknown_whatever_the_probabilities():
    for shares in ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.3, 0.4, 0.3)):
        judged = verdict(*shares, log_density=-20.1)
        assert (judged.kind, judged.label) == ("unknown", "unknown")
        assert judged.reasons == ("log-density -20.10 is below -20.00: unlike every class seen in training",)


def test_at_the_density_threshold_it_is_still_known():
    assert verdict(0.0, 1.0, 0.0, log_density=-20.0).kind == "real"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_values_abstain(bad):
    for judged in (verdict(bad, 0.5, 0.5), verdict(0.1, 0.8, 0.1, log_density=bad)):
        assert judged.kind == "abstain"
        assert judged.reasons == ("the network returned non-finite values",)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), st.floats(-100, 100))
def test_every_score_gives_one_of_the_four_kinds(scores, log_density):
    judged = judge(probabilities(np.float32(scores), 1.5), log_density, SPEC, decision=DECISION)
    assert judged.kind in KINDS
    assert 0.0 <= judged.probability <= 1.0
    assert len(judged.reasons) == 1


def test_a_decision_round_trips_through_json():
    assert Decision.from_json(json.loads(json.dumps(DECISION.to_json()))) == DECISION


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0},
        {"temperature": math.nan},
        {"temperature": 10**400},
        {"temperature": 10**300},  # finite, and more than NumPy divides by
        {"tolerance": {"onnxruntime": 10**400}},
        {"validation_real": 10**400},
        {"validation_real": 4},  # of which 5 raise an alarm
        {"validation_real": 100.5},
        {"validation_alarms": -1},
        {"temperature": "1"},
        {"temperature": True},
        {"real_threshold": 0.9},
        {"false_alarm_rate": 0},
        {"false_alarm_rate": math.nan},
        {"density_threshold": -math.inf},
        {"tolerance": 3},
        {"tolerance": {"onnxruntime": "x"}},
        {"tolerance": {"onnxruntime": math.nan}},
        {"tolerance": {"onnxruntime": math.inf}},
        {"tolerance": {"onnxruntime": -1.0}},
        {"extra": 1},
    ],
)
def test_an_invalid_block_is_rejected(change):
    with pytest.raises(BundleError, match=r"^decision: "):
        Decision.from_json(DECISION.to_json() | change)


@pytest.mark.parametrize("data", [None, [], "x", {}])
def test_data_that_is_not_a_block_is_rejected(data):
    with pytest.raises(BundleError, match=r"^decision: the fields must be exactly temperature, "):
        Decision.from_json(data)
