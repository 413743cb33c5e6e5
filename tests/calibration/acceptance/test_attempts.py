"""Reasons to reject an INT8 attempt."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
from leakrt.calibration.acceptance.attempts import OnBackend, failures
from leakrt.core.acceptance import MIN_INT8_SHARE, MIN_INT8_SPEEDUP, Changes, Comparison, Limits, Speedup

HELD = Comparison(
    images=100,
    macro_auc=0.96,
    macro_auc_drop=0.001,
    agreement=0.95,
    agreement_confident=0.995,
    verdict_agreement=0.98,
    false_alarms=3,
    real_faces=40,
    interval=(0, 6),
    changes=Changes(verdicts=2, crossings=0, score_error=0.1, counted=90, labels=0),
)


def times(low):
    return Speedup(1.1 * low, low, 1.2 * low, 30)


def attempt(**speedups):
    return {name: OnBackend(HELD, times(low), 0.01) for name, low in speedups.items()}


def test_passing_and_a_speedup_on_some_backend_are_enough():
    assert failures(attempt(onnxruntime=0.9, openvino=MIN_INT8_SPEEDUP), 0.95, Limits()) == ()


def test_without_a_significant_speedup_the_reason_names_the_best_backend():
    assert failures(attempt(onnxruntime=0.9, openvino=1.2), 0.95, Limits()) == (
        "int8 is at best 1.32 x as fast as fp32 (1.20 to 1.44); the lower figure must be at least 1.3",
    )


def test_a_speedup_of_bfloat16_does_not_count():
    assert len(failures(attempt(onnxruntime=0.9, openvino_bf16=3.0), 0.95, Limits())) == 1


def test_less_than_four_fifths_in_int8_is_rejected():
    fast = attempt(onnxruntime=2.0)
    assert failures(fast, MIN_INT8_SHARE, Limits()) == ()
    assert failures(fast, MIN_INT8_SHARE - 0.001, Limits()) == (
        "79.9% of the VAE's multiplications are in int8, less than 80%",
    )


def test_other_backends_do_not_count_and_all_reasons_are_listed():
    lost = replace(HELD, macro_auc_drop=0.01)
    found = {"onnxruntime": OnBackend(HELD, times(2.0), 0.0), "openvino": OnBackend(lost, times(2.0), 0.0)}
    assert failures(found, 0.9, Limits()) == ()
    assert len(failures({"onnxruntime": OnBackend(lost, times(1.0), 0.0)}, 0.5, Limits())) == 3
