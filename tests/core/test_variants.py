"""What a manifest tells of a variant's gate."""

from __future__ import annotations

import pytest

from leakrt.core.variants import gated_backends, passed_gate

TOLD = {"variants": {"int8": {"gate": {"openvino": {"passed": True}, "a": {"passed": False}, "b": {"passed": 1}}}}}


def test_fp32_needs_no_gate():
    assert passed_gate({}, "fp32", "onnxruntime")


def test_a_variant_may_be_used_where_its_gate_held_and_nowhere_else():
    assert passed_gate(TOLD, "int8", "openvino")
    assert not any(passed_gate(TOLD, "int8", backend) for backend in ("a", "b", "onnxruntime"))
    assert not passed_gate(TOLD, "fp16", "openvino")
    assert gated_backends(TOLD, "int8") == ("openvino",)


@pytest.mark.parametrize("told", [{}, {"variants": 3}, {"variants": {"int8": []}}, {"variants": {"int8": {"gate": 1}}}])
def test_what_is_not_of_the_format_counts_as_not_passed(told):
    assert gated_backends(told, "int8") == ()
