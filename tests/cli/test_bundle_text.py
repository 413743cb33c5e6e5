"""The tables of a bundle."""

from __future__ import annotations

from dataclasses import replace

import pytest

from leakrt.cli.bundle_text import bundle_sections
from leakrt.core.acceptance import Speedup
from leakrt.runtime.bundle_report import AcceptanceReport, GraphReport, inspect_bundle


@pytest.fixture
def report(tiny):
    return inspect_bundle(tiny)


def rows(report, heading: str) -> list[tuple[str, ...]]:
    return next(found for title, found in bundle_sections(report) if title.startswith(heading))


def test_each_graph_has_a_row_and_the_tensors_of_a_stem_stand_once(report):
    vae = GraphReport(
        name="vae_encoder.int8.onnx",
        producer="maker",
        inputs=("image [B]",),
        outputs=("latent [B]",),
        opset=17,
        nodes=1200,
        parameters=34567,
    )
    report = replace(report, graphs=(vae, replace(vae, name="vae_encoder.fp32.onnx", opset=None, nodes=None)))
    header, first, second, hint = rows(report, "graphs")
    assert header[1:] == ("opset", "nodes", "parameters", "producer")
    assert first == ("vae_encoder.int8.onnx", "17", "1,200", "34,567", "maker")
    assert second[1:4] == ("?", "?", "34,567")
    assert "pip install onnx" in hint[1]
    assert rows(report, "tensors") == [("vae_encoder", "image [B]", "-> latent [B]")]


def test_precisions_stand_side_by_side_with_a_gap_where_one_lacks_a_field(report):
    report = replace(
        report, decisions={"fp32": {"temperature": 1.5, "tolerance": {"x": 2}}, "int8": {"temperature": 2}}
    )
    assert rows(report, "decision") == [
        ("", "fp32", "int8"),
        ("temperature", "1.5", "2"),
        ("tolerance.x", "2", ""),
    ]


@pytest.mark.parametrize(
    ("passed", "auto", "reported"),
    [(True, True, ""), (True, False, "auto skips it"), (False, False, "not used on this backend")],
)
def test_a_gate_says_what_may_be_used(report, passed, auto, reported):
    gate = AcceptanceReport(
        precision="int8", backend="openvino", passed=passed, speedup=Speedup(2.0, 1.9, 2.1, 9), auto=auto, figures=None
    )
    _, row = rows(replace(report, gates=(gate,)), "acceptance tests")
    assert row[:3] == ("int8 on openvino", "passed" if passed else "failed", "2.00 x (1.90 to 2.10)")
    assert reported in row[-1]
    assert bool(reported) == bool(row[-1])


def test_what_fills_screens_is_left_to_json(report):
    reported = {
        "data_counts": {"train": {"real": 1500, "blocky": 10}},
        "metrics": {"macro_auc": 0.97, "open_auroc": None, "confusion": [[1, 2]]},
        "variants": {"int8": {"method": "mse", "sensitivity": {"/conv": 0.1}, "gate": {"x": {"passed": True}}}},
    }
    assert rows(replace(report, provenance=reported), "provenance") == [
        ("images", "train 1,510 of 2 classes"),
        ("metrics.macro_auc", "0.97"),
        ("int8.method", "mse"),
    ]


@pytest.mark.parametrize(
    "reported", [{"variants": 3}, {"data_counts": [1]}, {"metrics": "x"}, {"data_counts": {"train": 5}}]
)
def test_a_manifest_of_another_shape_is_no_reason_to_stop(report, reported):
    assert bundle_sections(replace(report, provenance=reported))


def test_a_refused_variant_is_listed_with_its_reasons_and_no_other_is(report):
    gate = AcceptanceReport(
        precision="fp16",
        backend="onnxruntime",
        passed=False,
        speedup=Speedup(1.0, 1.0, 1.0, 9),
        auto=False,
        figures=None,
        refused=True,
    )
    kept = replace(
        report,
        gates=(gate,),
        decisions={"fp32": {}, "fp16": {}},
        provenance={"variants": {"fp16": {"refused": ["2 faces cross", "too many"], "half_share": 0.9}}},
    )
    assert rows(kept, "acceptance tests")[1][-1] == "refused: only --precision fp16 selects it"
    assert rows(kept, "refused variants") == [("fp16", "2 faces cross"), ("fp16", "too many")]
    assert rows(kept, "provenance") == [("fp16.half_share", "0.9")]
    assert not any(title.startswith("refused") for title, _ in bundle_sections(report))
