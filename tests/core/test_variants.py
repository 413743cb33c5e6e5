"""What a manifest tells of a variant's gate."""

from __future__ import annotations

import pytest

from leakrt.core.variants import AUTO_SPEEDUP, gated_backends, measured_backends, passed_gate, speedup, worth_taking

TOLD = {"variants": {"int8": {"gate": {"openvino": {"passed": True}, "a": {"passed": False}, "b": {"passed": 1}}}}}


def test_fp32_needs_no_gate():
    assert passed_gate({}, "fp32", "onnxruntime")


def test_a_variant_may_be_used_where_its_gate_held_and_nowhere_else():
    assert passed_gate(TOLD, "int8", "openvino")
    assert not any(passed_gate(TOLD, "int8", backend) for backend in ("a", "b", "onnxruntime"))
    assert not passed_gate(TOLD, "fp16", "openvino")
    assert gated_backends(TOLD, "int8") == ("openvino",)
    assert measured_backends(TOLD, "int8") == ("a", "b", "openvino")


def test_auto_may_take_what_passed_and_was_not_slower_than_fp32():
    gates = {
        "quick": {"passed": True, "speedup": 1.9},
        "level": {"passed": True, "speedup": AUTO_SPEEDUP},
        "slow": {"passed": True, "speedup": 0.64},
        "wrong": {"passed": False, "speedup": 1.9},
        "untimed": {"passed": True},
        "scattered": {"passed": True, "speedup": 1.9, "speedup_interval": [0.64, 2.5]},
        "steady": {"passed": True, "speedup": 0.95, "speedup_interval": [AUTO_SPEEDUP, 1.0]},
        "damaged": {"passed": True, "speedup": 0.95, "speedup_interval": ["no"]},
    }
    told = {"variants": {"fp16": {"gate": gates}}}
    taken = [name for name in gates if worth_taking(told, "fp16", name)]
    assert taken == ["quick", "level", "untimed", "steady", "damaged"]
    assert speedup(told, "fp16", "slow") == 0.64
    assert passed_gate(told, "fp16", "slow")
    assert worth_taking(told, "fp32", "slow")


@pytest.mark.parametrize("told", [{}, {"variants": 3}, {"variants": {"int8": []}}, {"variants": {"int8": {"gate": 1}}}])
def test_what_is_not_of_the_format_counts_as_not_passed(told):
    assert gated_backends(told, "int8") == measured_backends(told, "int8") == ()
    assert not worth_taking(told, "int8", "onnxruntime")


@pytest.mark.parametrize("value", [None, "2", 0, -1.0, float("nan"), [2]])
def test_a_speedup_that_is_no_positive_number_counts_as_none_told(value):
    assert speedup({"variants": {"fp16": {"gate": {"a": {"speedup": value}}}}}, "fp16", "a") == 1.0
