"""A verdict holds the decision, its subject and its origin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakrt.core.decision import Decision
from leakrt.core.judging import Judge, Origin, Subject
from leakrt.core.outputs import LeakOutputs
from leakrt.core.spec import ModelSpec
from leakrt.core.support import Support
from leakrt.core.verdict import Face

SPEC = ModelSpec(
    class_names=("gan", "real", "vae"),
    real_class="real",
    image_size=32,
    timesteps=(0, 150),
    embedding_dim=5,
    prototypes_per_class=2,
)
DECISION = Decision(
    temperature=2.0,
    alarm_threshold=0.8,
    real_threshold=0.4,
    density_threshold=-20.0,
    false_alarm_rate=0.05,
    validation_real=90,
    validation_alarms=4,
)
DRAW = np.random.default_rng(0)
PROTOTYPES = DRAW.standard_normal((3, 2, 5)).astype(np.float32)
SUPPORT = Support(
    mean=np.zeros(5, np.float32),
    projection=np.eye(5, dtype=np.float32),
    points=np.zeros((1, 5), np.float32),
    bandwidth=1.0,
    prototypes=PROTOTYPES,
)
JUDGE = Judge(SPEC, DECISION, SUPPORT, origin=Origin("onnxruntime", "fp32", "abc123"))


def outputs(scores, embedding=None, gates=None) -> LeakOutputs:
    rows = np.atleast_2d(np.asarray(scores, np.float32))
    n = len(rows)
    return LeakOutputs(
        rows,
        np.zeros((n, 5), np.float32) if embedding is None else embedding,
        np.ones((n, 5), np.float32) if gates is None else gates,
        np.tile(np.float32([0.25, 0.75]), (n, 1)),
    )


def softmax(scores, temperature):
    powers = [math.exp(s / temperature) for s in scores]
    return [p / sum(powers) for p in powers]


def test_a_verdict_holds_all_results():
    subject = Subject(path="a.png", face=Face(1, (2, 3, 40, 50)), notes=("a note",), latency_ms={"vae": 1.5})
    verdict = JUDGE.verdict(subject, outputs([[0, 0, 0], [9, 1, 2]]), 1, log_density=-5.0)
    wanted = softmax([9, 1, 2], 2.0)
    assert verdict.scores == pytest.approx(dict(zip(SPEC.class_names, wanted, strict=True)), abs=1e-12)
    assert (verdict.verdict, verdict.label) == ("generator", "gan")
    assert verdict.probability == pytest.approx(wanted[0])
    assert verdict.step_weights == {"0": 0.25, "150": 0.75}
    assert (verdict.path, verdict.face, verdict.latency_ms) == ("a.png", subject.face, {"vae": 1.5})
    assert (verdict.backend, verdict.precision, verdict.bundle) == ("onnxruntime", "fp32", "abc123")
    assert verdict.log_density == -5.0
    assert verdict.error is None
    assert len(verdict.reasons) == 2
    assert verdict.reasons[-1] == "a note"  # notes of the reader come after the reasons


@pytest.mark.parametrize(
    ("scores", "density", "kind", "label"),
    [
        ([0, 9, 0], -5.0, "real", "real"),
        ([9, 0, 0], -5.0, "generator", "gan"),
        ([0, 0, 9], -5.0, "generator", "vae"),
        ([1.4, 2.8, 0], -5.0, "abstain", "abstain"),
        ([0, 9, 0], -20.5, "unknown", "unknown"),
        ([9, 0, 0], -20.5, "unknown", "unknown"),
        ([0, 9, 0], math.nan, "abstain", "abstain"),
        ([0, 9, math.nan], -5.0, "abstain", "abstain"),
        ([0, math.inf, 0], -5.0, "abstain", "abstain"),
        ([0, 9, 0], -math.inf, "abstain", "abstain"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_each_kind_of_verdict(scores, density, kind, label):
    verdict = JUDGE.verdict(Subject(path="x"), outputs(scores), 0, log_density=density)
    assert (verdict.verdict, verdict.label) == (kind, label)


@pytest.mark.parametrize(("k", "m"), [(0, 0), (1, 1), (2, 0)])
def test_the_nearest_prototype_is_named_by_class_and_number(k, m):
    near = (PROTOTYPES[k, m] + 0.01)[None]
    assert JUDGE.nearest_prototype(outputs([[0, 0, 0]], near), 0) == f"{SPEC.class_names[k]}/{m}"


def test_the_gates_say_which_dimensions_count():
    mixed = PROTOTYPES[0, 0].copy()
    mixed[2:] = PROTOTYPES[2, 1][2:]
    first, last = np.float32([[1, 1, 0, 0, 0]]), np.float32([[0, 0, 1, 1, 1]])
    assert JUDGE.nearest_prototype(outputs([[0, 0, 0]], mixed[None], first), 0) == "gan/0"
    assert JUDGE.nearest_prototype(outputs([[0, 0, 0]], mixed[None], last), 0) == "vae/1"


def test_no_prototype_is_named_if_a_distance_is_not_finite():
    broken = np.full((1, 5), np.nan, np.float32)
    assert JUDGE.nearest_prototype(outputs([[0, 0, 0]], broken), 0) == ""


finite = st.floats(-40, 40, width=32)


@settings(deadline=None)
@given(st.lists(finite, min_size=3, max_size=3), st.floats(-60, 60))
def test_the_rule_holds_for_any_scores_and_density(scores, density):
    verdict = JUDGE.verdict(Subject(path="x"), outputs(scores), 0, log_density=density)
    generated = 1.0 - verdict.scores["real"]
    if density < DECISION.density_threshold:
        wanted = "unknown"
    elif generated >= DECISION.alarm_threshold:
        wanted = "generator"
    else:
        wanted = "real" if generated <= DECISION.real_threshold else "abstain"
    assert verdict.verdict == wanted
    assert sum(verdict.scores.values()) == pytest.approx(1.0)
    assert verdict.label in {"unknown": {"unknown"}, "abstain": {"abstain"}, "real": {"real"}}.get(
        wanted, {"gan", "vae"}
    )
    assert verdict.reasons


def test_notes_on_the_precision_follow_the_decision_and_precede_those_of_the_image():
    judge = Judge(SPEC, DECISION, SUPPORT, origin=JUDGE.origin, notes=("refused",))
    subject = Subject(path="x", notes=("converted",))
    reasons = judge.verdict(subject, outputs([0, 9, 0]), 0, log_density=0.0).reasons
    assert reasons[1:] == ("refused", "converted")
    assert judge.verdict(subject, outputs([0, 9, 0]), 0, log_density=0.0, faults=("bad",)).reasons == (
        "bad",
        "refused",
        "converted",
    )
