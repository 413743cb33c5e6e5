"""Why an attempt at int8 is refused."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
from leakrt.calibration.attempts import MIN_SPEEDUP, OnBackend, failures
from leakrt.calibration.gate import Comparison, Limits

HELD = Comparison(100, 0.96, 0.001, 0.95, 0.995, 0.95, 3, 40, (0, 6))


def attempt(**speedups):
    return {name: OnBackend(HELD, times, 0.01) for name, times in speedups.items()}


def test_a_gate_that_holds_and_a_speedup_on_some_backend_is_enough():
    assert failures(attempt(onnxruntime=0.9, openvino=MIN_SPEEDUP), Limits()) == ()


def test_no_backend_on_which_it_is_faster_is_told_with_the_best():
    assert failures(attempt(onnxruntime=0.9, openvino=1.2), Limits()) == (
        "int8 is 1.20 x as fast as fp32 at best, under 1.3 x",
    )


def test_a_speedup_that_bfloat16_brings_is_none_of_int8():
    assert len(failures(attempt(onnxruntime=0.9, openvino_bf16=3.0), Limits())) == 1
