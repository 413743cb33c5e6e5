"""What a manifest tells of a variant's gate."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from gate_figures import gate_with_figures, gates_with_figures

from leakrt.core.gates import AUTO_SPEEDUP, FP16_LIMITS
from leakrt.core.variants import contradictions, gated_backends, measured_backends, passed_gate, speedup, worth_taking

GATES = {"openvino": {"passed": True}, "a": {"passed": False}, "b": {"passed": 1}}
TOLD = {"variants": {"int8": {"int8_share": 0.96, "gate": gates_with_figures("int8", GATES)}}}


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
    told = {"variants": {"fp16": {"gate": gates_with_figures("fp16", gates)}}}
    taken = [name for name in gates if worth_taking(told, "fp16", name)]
    assert taken == ["quick", "level", "untimed", "steady", "damaged"]
    assert speedup(told, "fp16", "slow").median == 0.64
    assert passed_gate(told, "fp16", "slow")
    assert worth_taking(told, "fp32", "slow")


@pytest.mark.parametrize("told", [{}, {"variants": 3}, {"variants": {"int8": []}}, {"variants": {"int8": {"gate": 1}}}])
def test_what_is_not_of_the_format_counts_as_not_passed(told):
    assert gated_backends(told, "int8") == measured_backends(told, "int8") == ()
    assert not worth_taking(told, "int8", "onnxruntime")


QUICK, SLOW, UNTIMED = ({**gate_with_figures("int8", {"passed": True, "speedup": s}), "limits": asdict(FP16_LIMITS)}
                        for s in (1.5, 1.2, None))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"int8_share": 0.79}, "79.0% of the VAE's multiplications are in int8, less than 80%"),
        ({"int8_share": "all"}, "multiplications in int8 is not recorded"),
        ({"int8_share": True}, "multiplications in int8 is not recorded"),
        ({"int8_share": None}, "multiplications in int8 is not recorded"),
        ({"gate": {"onnxruntime": UNTIMED}}, "int8 is at best 1.00 x as fast as fp32"),
        ({"gate": {"openvino_bf16": QUICK}}, "int8 is at best 1.00 x as fast as fp32"),
        ({"gate": {"onnxruntime": SLOW}}, "int8 is at best 1.20 x as fast as fp32"),
        ({"gate": {"onnxruntime": SLOW, "openvino_bf16": QUICK}}, "int8 is at best 1.20 x as fast as fp32"),
    ],
    ids=["share", "no_number", "no_share", "none", "untimed", "timed_in_bfloat16", "slow", "quick_in_bfloat16_alone"],
)
def test_what_is_no_int8_variant_by_its_own_figures_passed_nowhere(changes, said):
    held = {"int8_share": 0.96, "gate": {"onnxruntime": QUICK}}
    assert gated_backends({"variants": {"int8": held}}, "int8") == ("onnxruntime",)
    told = {"variants": {"int8": {**held, **changes}, "fp16": {**held, **changes}}}
    assert gated_backends(told, "int8") == ()
    assert said in contradictions(told, "int8")[0]
    assert gated_backends(told, "fp16") == tuple(told["variants"]["fp16"]["gate"])  # no share to keep, and may be slow


def test_a_gate_that_says_it_passed_against_its_own_figures_or_without_any_did_not():
    for gate in (gate_with_figures("fp16", {"passed": True, "macro_auc_drop": 0.3}), {"passed": True}):
        assert gated_backends({"variants": {"fp16": {"gate": {"onnxruntime": gate}}}}, "fp16") == ()
