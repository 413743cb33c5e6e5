"""Metrics from verdicts, against manual counts and scikit-learn."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("sklearn")
from sklearn.metrics import roc_auc_score

from leakrt.core.decision import Decision
from leakrt.core.errors import DataError
from leakrt.core.spec import ModelSpec
from leakrt.core.verdict import Verdict
from leakrt.train.evaluation import (
    closed_results,
    evaluate,
    open_results,
)
from leakrt.train.metrics import open_set_classification_rate

SPEC = ModelSpec(class_names=("gan", "real", "vae"), real_class="real")
DECISION = Decision(
    temperature=1.0,
    alarm_threshold=0.9,
    real_threshold=0.5,
    density_threshold=-30.0,
    false_alarm_rate=0.05,
    validation_real=90,
    validation_alarms=4,
)
NAMED = {
    "macro_auc",
    "balanced_accuracy",
    "top1",
    "per_class_auc",
    "ece",
    "false_alarm_rate",
    "false_alarm_target",
    "open_auroc",
    "open_fpr95",
    "oscr",
}


def verdict(shares, kind="real", density=-10.0, error=None) -> Verdict:
    if error is not None:
        return Verdict.failed("x.png", error, "torch", precision="fp32", bundle="")
    scores = dict(zip(SPEC.class_names, map(float, shares), strict=True))
    return Verdict("x.png", kind, kind, max(shares), density, scores, {}, "", (), "torch", "fp32", "")


def closed_set(seed: int = 0, each: int = 30) -> tuple[list[Verdict], list[str]]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), each)
    logits = rng.standard_normal((3 * each, 3))
    logits[np.arange(3 * each), labels] += 1.0
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    kinds = rng.choice(["real", "generator", "unknown", "abstain"], 3 * each)
    found = [verdict(p, k, d) for p, k, d in zip(shares, kinds, rng.normal(-10, 2, 3 * each), strict=True)]
    return found, [SPEC.class_names[k] for k in labels]


def test_macro_auc_is_the_one_vs_rest_mean():
    found, labels = closed_set()
    result = evaluate(found, labels, [], spec=SPEC, decision=DECISION).closed
    shares = np.array([list(v.scores.values()) for v in found])
    wanted = roc_auc_score([SPEC.class_names.index(n) for n in labels], shares, multi_class="ovr", average="macro")
    assert result.macro_auc == pytest.approx(wanted)
    assert result.macro_auc == pytest.approx(np.mean(list(result.per_class_auc.values())))


def test_confusion_counts_true_classes_by_row():
    found = [verdict((0.8, 0.1, 0.1)), verdict((0.2, 0.7, 0.1)), verdict((0.6, 0.3, 0.1)), verdict((0.1, 0.1, 0.8))]
    closed = evaluate(found, ["gan", "gan", "real", "vae"], [], spec=SPEC, decision=DECISION).closed
    assert closed.confusion == ((1, 1, 0), (1, 0, 0), (0, 0, 1))
    assert closed.top1 == 0.5
    assert closed.balanced_accuracy == pytest.approx((0.5 + 0.0 + 1.0) / 3)


def test_alarms_on_real_faces_are_those_called_generator_or_unknown():
    real = [("real", 5), ("generator", 2), ("unknown", 1), ("abstain", 2)]
    fake = [("real", 1), ("generator", 5), ("unknown", 2), ("abstain", 2)]
    found = [verdict((0.3, 0.4, 0.3), kind) for kind, count in real for _ in range(count)]
    found += [verdict((0.4, 0.3, 0.3), kind) for kind, count in fake for _ in range(count)]
    decision = evaluate(found, ["real"] * 10 + ["gan"] * 5 + ["vae"] * 5, [], spec=SPEC, decision=DECISION).decision
    assert (decision.false_alarm_count, decision.real_faces, decision.false_alarm_rate) == (3, 10, 0.3)
    assert decision.interval == (0, 2)  # beta-binomial of 10 faces, 4 of 90: 0.3 is far outside
    assert not decision.inside_interval
    assert decision.coverage_real == pytest.approx(0.8)
    assert decision.coverage == pytest.approx(0.8)
    assert decision.generated_called_generated == pytest.approx(0.7)
    assert decision.generated_called_real == pytest.approx(0.1)


def test_oscr_is_the_area_under_the_curve_of_its_two_rates():
    rng = np.random.default_rng(3)
    found, labels = closed_set(3)
    closed = closed_results(found, labels, SPEC)
    unseen = open_results([verdict(rng.dirichlet(np.ones(3))) for _ in range(37)])
    right = closed.predicted == closed.labels
    thresholds = np.unique(np.r_[closed.confidence, unseen.confidence, 2.0])[::-1]
    rates = [(np.mean(unseen.confidence >= t), np.mean(right & (closed.confidence >= t))) for t in thresholds]
    area = np.trapezoid([r[1] for r in rates], [r[0] for r in rates])
    found_rate = open_set_classification_rate(closed.confidence[right], unseen.confidence, len(closed.labels))
    assert found_rate == pytest.approx(area)


def test_json_has_every_metric_with_and_without_an_open_set():
    found, labels = closed_set()
    without = evaluate(found, labels, [], spec=SPEC, decision=DECISION).to_json()
    assert without.keys() >= NAMED
    assert without["open_auroc"] is without["open_fpr95"] is without["oscr"] is None
    data = json.loads(
        json.dumps(evaluate(found, labels, found[:9], spec=SPEC, decision=DECISION).to_json(), allow_nan=False)
    )
    assert data.keys() == without.keys()
    assert 0 <= data["oscr"] <= data["open_auroc"] <= 1


def test_failed_images_are_counted_but_excluded_from_metrics():
    found, labels = closed_set()
    broken = [*found, verdict((), error="x.png: cut short"), verdict((0.2, 0.5, 0.3), density=math.nan)]
    result = evaluate(
        broken, [*labels, "real", "real"], [verdict((), error="gone"), found[0]], spec=SPEC, decision=DECISION
    )
    assert result.failed == 3
    assert result.closed == evaluate(found, labels, [], spec=SPEC, decision=DECISION).closed
    assert result.open is not None
    assert result.open.images == 1


def test_classes_that_do_not_match_the_model_are_named():
    found, labels = closed_set()
    with pytest.raises(DataError, match="not trained on flow"):
        evaluate([*found, found[0]], [*labels, "flow"], [], spec=SPEC, decision=DECISION)
    with pytest.raises(DataError, match=r"open set could be classified.*gone"):
        evaluate(found, labels, [verdict((), error="gone")], spec=SPEC, decision=DECISION)


def test_metrics_that_need_a_missing_class_are_null_with_a_reason():
    found, labels = closed_set()
    part = evaluate(found[:60], labels[:60], found[:9], spec=SPEC, decision=DECISION)  # gan and real
    data = json.loads(json.dumps(part.to_json(), allow_nan=False))
    nulls = "macro_auc balanced_accuracy open_auroc open_fpr95 oscr open_auroc_density open_fpr95_density"
    assert {name for name, value in data.items() if value is None} == set(nulls.split())
    assert data["not_measured"] == "no image of vae was classified"
    assert (data["per_class_auc"]["vae"], data["recall"]["vae"]) == (None, None)
    whole = evaluate(found, labels, [], spec=SPEC, decision=DECISION)
    assert data["recall"]["gan"] == whole.closed.recall["gan"]
    assert data["false_alarm_count"] == whole.decision.false_alarm_count
    failing = [v if name != "gan" else verdict((), error="cut short") for v, name in zip(found, labels, strict=True)]
    assert evaluate(failing, labels, [], spec=SPEC, decision=DECISION).missing == ("gan",)


def test_real_faces_give_the_false_alarms_and_one_generator_gives_its_recall():
    found, labels = closed_set()
    whole = evaluate(found, labels, [], spec=SPEC, decision=DECISION)
    real = evaluate(found[30:60], labels[30:60], [], spec=SPEC, decision=DECISION)
    assert set(labels[30:60]) == {"real"}
    fields = ("false_alarm_rate", "false_alarm_count", "interval", "inside_interval", "coverage_real")
    assert [getattr(real.decision, f) for f in fields] == [getattr(whole.decision, f) for f in fields]
    assert real.decision.generated_called_generated is None
    gan = evaluate(found[:30], labels[:30], [], spec=SPEC, decision=DECISION)
    assert gan.closed.recall == {"gan": whole.closed.recall["gan"], "real": None, "vae": None}
    assert gan.decision.false_alarm_rate is gan.decision.interval is gan.decision.coverage_real is None
    with pytest.raises(DataError, match="no image of a known class could be classified; first error: cut short"):
        evaluate([verdict((), error="cut short")], ["gan"], [], spec=SPEC, decision=DECISION)


def pairs_won(higher, lower) -> float:
    """Share of pairs in which the first is higher; ties count half."""
    return sum((a > b) + 0.5 * (a == b) for a in higher for b in lower) / (len(higher) * len(lower))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), *[st.integers(1, 9)] * 3), min_size=3, max_size=30))
def test_attribution_metrics_match_their_definitions(rows):
    labels = [label for label, *_ in rows]
    assume(set(labels) == {0, 1, 2})
    likely = [[weight / sum(weights) for weight in weights] for _, *weights in rows]
    found = [verdict(p) for p in likely]
    closed = evaluate(found, [SPEC.class_names[k] for k in labels], [], spec=SPEC, decision=DECISION).closed
    best = [p.index(max(p)) for p in likely]
    right = [a == b for a, b in zip(best, labels, strict=True)]
    for k, name in enumerate(SPEC.class_names):
        mine = [p[k] for p, label in zip(likely, labels, strict=True) if label == k]
        others = [p[k] for p, label in zip(likely, labels, strict=True) if label != k]
        assert closed.per_class_auc[name] == pytest.approx(pairs_won(mine, others))
    recalls = [sum(r for r, label in zip(right, labels, strict=True) if label == k) / labels.count(k) for k in range(3)]
    assert closed.macro_auc == pytest.approx(sum(closed.per_class_auc.values()) / 3)
    assert closed.top1 == pytest.approx(sum(right) / len(right))
    assert closed.balanced_accuracy == pytest.approx(sum(recalls) / 3)
    assert closed.confusion == tuple(
        tuple(sum(a == i and b == j for a, b in zip(labels, best, strict=True)) for j in range(3)) for i in range(3)
    )
