"""Acceptance results of variants in a manifest."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from acceptance_figures import result_with_figures, results_with_figures

from leakrt.core.acceptance import AUTO_SPEEDUP, FP16_LIMITS
from leakrt.core.variants import (
    accepted_backends,
    contradictions,
    measured_backends,
    passed_acceptance,
    refusal,
    refusal_notes,
    speedup,
    worth_taking,
)

GATES = {"openvino": {"passed": True}, "a": {"passed": False}, "b": {"passed": 1}}
PROVENANCE = {"variants": {"int8": {"int8_share": 0.96, "gate": results_with_figures("int8", GATES)}}}


def test_fp32_needs_no_acceptance_record():
    assert passed_acceptance({}, "fp32", "onnxruntime")


def test_a_variant_may_be_used_only_where_it_passed_acceptance():
    assert passed_acceptance(PROVENANCE, "int8", "openvino")
    assert not any(passed_acceptance(PROVENANCE, "int8", backend) for backend in ("a", "b", "onnxruntime"))
    assert not passed_acceptance(PROVENANCE, "fp16", "openvino")
    assert accepted_backends(PROVENANCE, "int8") == ("openvino",)
    assert measured_backends(PROVENANCE, "int8") == ("a", "b", "openvino")


def test_auto_may_select_variants_that_passed_and_are_not_slower_than_fp32():
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
    provenance = {"variants": {"fp16": {"gate": results_with_figures("fp16", gates)}}}
    taken = [name for name in gates if worth_taking(provenance, "fp16", name)]
    assert taken == ["quick", "level", "untimed", "steady", "damaged"]
    assert speedup(provenance, "fp16", "slow").median == 0.64
    assert passed_acceptance(provenance, "fp16", "slow")
    assert worth_taking(provenance, "fp32", "slow")


@pytest.mark.parametrize(
    "provenance", [{}, {"variants": 3}, {"variants": {"int8": []}}, {"variants": {"int8": {"gate": 1}}}]
)
def test_an_invalid_record_counts_as_not_passed(provenance):
    assert accepted_backends(provenance, "int8") == measured_backends(provenance, "int8") == ()
    assert not worth_taking(provenance, "int8", "onnxruntime")


QUICK, SLOW, UNTIMED = ({**result_with_figures("int8", {"passed": True, "speedup": s}), "limits": asdict(FP16_LIMITS)}
                        for s in (1.5, 1.2, None))  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
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
def test_an_int8_variant_that_fails_its_own_requirements_passed_nowhere(changes, reason):
    accepted = {"int8_share": 0.96, "gate": {"onnxruntime": QUICK}}
    assert accepted_backends({"variants": {"int8": accepted}}, "int8") == ("onnxruntime",)
    provenance = {"variants": {"int8": {**accepted, **changes}, "fp16": {**accepted, **changes}}}
    assert accepted_backends(provenance, "int8") == ()
    assert reason in contradictions(provenance, "int8")[0]
    assert accepted_backends(provenance, "fp16") == tuple(
        provenance["variants"]["fp16"]["gate"]
    )  # no share to keep, and may be slow


def test_a_record_that_its_figures_contradict_or_without_figures_did_not_pass():
    for gate in (result_with_figures("fp16", {"passed": True, "macro_auc_drop": 0.3}), {"passed": True}):
        assert accepted_backends({"variants": {"fp16": {"gate": {"onnxruntime": gate}}}}, "fp16") == ()


def test_a_refused_variant_passed_nowhere_whatever_its_records_say():
    accepted = {"gate": results_with_figures("fp16", {"onnxruntime": {"passed": True}})}
    assert accepted_backends({"variants": {"fp16": {**accepted, "refused": []}}}, "fp16") == ("onnxruntime",)
    provenance = {"variants": {"fp16": {**accepted, "refused": ["a", "b"]}}}
    assert refusal(provenance, "fp16") == ("a", "b")
    assert accepted_backends(provenance, "fp16") == ()
    assert not worth_taking(provenance, "fp16", "onnxruntime")
    assert measured_backends(provenance, "fp16") == ("onnxruntime",)
    assert refusal_notes(provenance, "fp16") == ("the fp16 variant was refused by its acceptance test: a; b",)
    assert refusal_notes(provenance, "int8") == refusal_notes({}, "fp16") == ()


@pytest.mark.parametrize("mark", ["yes", True, 0, {"why": "x"}, [1], ["a", None]])
def test_an_invalid_mark_still_refuses(mark):
    accepted = {"gate": results_with_figures("fp16", {"onnxruntime": {"passed": True}}), "refused": mark}
    assert refusal({"variants": {"fp16": accepted}}, "fp16") == ("the manifest does not say why",)
    assert accepted_backends({"variants": {"fp16": accepted}}, "fp16") == ()
