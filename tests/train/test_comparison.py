"""Comparison of precisions from verdicts."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("sklearn")
from leakrt.core.decision import Decision
from leakrt.core.spec import ModelSpec
from leakrt.core.verdict import Verdict
from leakrt.train.comparison import PrecisionResult, agreement, latency
from leakrt.train.evaluation import evaluate

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


def verdict(*shares, kind="real", **changes):
    scores = dict(zip(SPEC.class_names, shares, strict=True))
    fields = {"latency_ms": {"decode": 100.0, "faces": 50.0, "vae": 2.0, "decision": 1.0}, **changes}
    return Verdict("x", kind, "real", 0.5, -3.0, scores, {}, "", ("why",), "onnxruntime", "fp16", "id", **fields)


SURE, UNSURE = verdict(0.05, 0.9, 0.05), verdict(0.4, 0.45, 0.15)
FLIPPED = verdict(0.45, 0.4, 0.15)
FAILED = Verdict.failed("x", "x: the file is empty", "onnxruntime", precision="fp16", bundle="id")


def test_the_same_verdicts_agree_fully():
    found = agreement([SURE, UNSURE, SURE], [SURE, UNSURE, SURE])
    assert (found.images, found.labels, found.verdicts) == (3, 1.0, 1.0)


def test_the_reference_defines_the_confident_half():
    reference = [SURE, verdict(0.9, 0.08, 0.02), UNSURE, UNSURE]
    found = agreement(reference, [reference[0], reference[1], FLIPPED, UNSURE])
    assert (found.labels, found.confident) == (0.75, 1.0)
    found = agreement(reference, [verdict(0.9, 0.05, 0.05), reference[1], UNSURE, UNSURE])
    assert (found.labels, found.confident) == (0.75, 0.5)


def test_kinds_of_verdicts_are_compared_by_themselves():
    assert agreement([SURE, UNSURE], [SURE, verdict(0.4, 0.45, 0.15, kind="abstain")]).verdicts == 0.5


def test_images_that_failed_at_one_precision_do_not_count():
    broken = verdict(math.nan, 0.5, 0.5)
    assert agreement([SURE, SURE, FAILED], [SURE, broken, SURE]).images == 1
    nothing = agreement([FAILED], [SURE])
    assert (nothing.images, math.isnan(nothing.labels), math.isnan(nothing.confident)) == (0, True, True)


def test_latency_runs_from_preprocess_to_decision():
    found = latency([verdict(0, 1, 0, latency_ms={"decode": 99.0, "vae": float(i)}) for i in range(101)])
    assert (found.p50, found.p99) == (50.0, 99.0)
    assert math.isnan(latency([FAILED]).p50)


def test_a_result_is_one_json_object():
    verdicts = [verdict(*(1.0 if k == i else 0.0 for k in range(3))) for i in range(3)]
    figures = evaluate(verdicts, SPEC.class_names, [], spec=SPEC, decision=DECISION)
    result = PrecisionResult(
        precision="fp16",
        backend="onnxruntime",
        megabytes=1.5,
        evaluation=figures,
        agreement=agreement([SURE], [SURE]),
        latency=latency([]),
        caught=2,
    )
    data = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert data["macro_auc"] == 1.0
    assert data["agreement"] == {"images": 1, "labels": 1.0, "confident": None, "verdicts": 1.0}
    assert (data["latency_ms"], data["caught"], data["megabytes"]) == ({"p50": None, "p99": None}, 2, 1.5)
