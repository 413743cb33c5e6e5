"""One verdict, one JSON line."""

from __future__ import annotations

import json
import math

from leakrt.core.verdict import Face, Verdict

VERDICT = Verdict(
    path="ä\n.jpg",
    verdict="generator",
    label="gan",
    probability=0.75,
    log_density=-3.5,
    scores={"gan": 0.75, "real": 0.25},
    step_weights={"0": 0.5, "60": 0.5},
    prototype="gan/1",
    reasons=("because",),
    backend="onnxruntime",
    precision="fp32",
    bundle="0123456789ab",
    latency_ms={"vae": 1.25},
    face=Face(0, (1, 2, 30, 40)),
)


def test_a_verdict_is_one_json_line_with_all_fields():
    line = VERDICT.to_json()
    assert "\n" not in line
    data = json.loads(line)
    assert list(data) == [
        *("path", "verdict", "label", "probability", "log_density", "scores", "step_weights", "prototype", "reasons"),
        *("backend", "precision", "bundle", "latency_ms", "face", "error"),
    ]
    assert data["face"] == {"index": 0, "box": [1, 2, 30, 40]}
    assert data["path"] == "ä\n.jpg"
    assert data["error"] is None


def test_non_finite_numbers_become_null():
    data = json.loads(Verdict.failed("x", "y", "b", precision="fp32", bundle="id").to_json())
    assert data["log_density"] is None
    broken = Verdict(**{**VERDICT.__dict__, "scores": {"gan": math.inf}, "latency_ms": {"vae": math.nan}})
    data = json.loads(broken.to_json())
    assert (data["scores"], data["latency_ms"]) == ({"gan": None}, {"vae": None})


def test_a_failed_image_has_an_error_and_no_verdict():
    failed = Verdict.failed("x.jpg", "x.jpg: the file is empty", "onnxruntime", precision="fp32", bundle="id")
    assert failed.verdict is None
    assert failed.error == "x.jpg: the file is empty"
    assert (failed.label, failed.prototype, failed.scores, failed.face) == ("", "", {}, None)
