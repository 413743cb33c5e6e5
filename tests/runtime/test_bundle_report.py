"""A bundle's contents, read with the onnx package or, without it, with ONNX Runtime."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest
from acceptance_figures import HELD, results_with_figures

from leakrt.core.acceptance import Speedup
from leakrt.core.bundle import Bundle, write_bundle
from leakrt.core.errors import BundleError, ModelError
from leakrt.runtime.bundle_report import AcceptanceReport, inspect_bundle


@pytest.fixture
def without_onnx(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a))


def rewrite(tiny, path, provenance=None, **files):
    """Write the tiny bundle to `path` with other provenance or files."""
    bundle = Bundle(tiny)
    whole = {name: bundle.read(name) for name in bundle.hashes} | files
    write_bundle(path, bundle.spec, whole, provenance=bundle.provenance if provenance is None else provenance)
    return path


def test_sizes_and_hashes_are_those_of_the_verified_bundle(tiny):
    bundle, report = Bundle(tiny), inspect_bundle(tiny)
    assert (report.identity, report.spec, report.path) == (bundle.identity, bundle.spec, str(tiny))
    assert {f.name: (f.bytes, f.sha256) for f in report.files} == {
        name: ((tiny / name).stat().st_size, bundle.hashes[name]) for name in bundle.file_sizes
    }


def test_onnx_and_onnx_runtime_report_the_same_names_and_shapes(tiny, monkeypatch):
    pytest.importorskip("onnx", reason="needs onnx for one of the two ways")
    counted = inspect_bundle(tiny).graphs
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a))
    loaded = inspect_bundle(tiny).graphs
    assert [(g.name, g.inputs, g.outputs) for g in counted] == [(g.name, g.inputs, g.outputs) for g in loaded]
    assert all(g.opset == 17 and g.nodes and g.parameters for g in counted)
    assert all((g.opset, g.nodes, g.parameters) == (None, None, None) for g in loaded)


def test_weights_are_counted_and_are_not_inputs(tiny):
    onnx = pytest.importorskip("onnx", reason="needs onnx, which counts weights")
    graph = {g.name: g for g in inspect_bundle(tiny).graphs}["leak_encoder.fp32.onnx"]
    parsed = onnx.load(str(tiny / graph.name))
    assert graph.parameters == sum(onnx.numpy_helper.to_array(t).size for t in parsed.graph.initializer)
    assert [text.split()[0] for text in graph.inputs] == ["noised"]
    assert [text.split()[0] for text in graph.outputs] == ["scores", "embedding", "gates", "step_weights"]


def test_the_report_lists_the_gate_of_every_precision_and_backend(tiny, tmp_path):
    decision = json.loads((tiny / "decision.json").read_bytes())
    names = {name: name.replace("fp32", "int8") for name in Bundle(tiny).hashes if ".fp32." in name}
    gates = {"onnxruntime": {"passed": True, "speedup": 2.5}, "openvino": {"passed": False, "speedup": 3.0},
             "torch": {"passed": True, "speedup": 0.5}}  # fmt: skip
    path = rewrite(
        tiny, tmp_path / "b", {"variants": {"int8": {"int8_share": 0.9, "gate": results_with_figures("int8", gates)}}},
        **{new: Bundle(tiny).read(old) for old, new in names.items()},
        **{"decision.json": json.dumps({**decision, "int8": decision["fp32"]}).encode()},
    )  # fmt: skip
    assert inspect_bundle(path).gates == (
        AcceptanceReport(
            precision="int8",
            backend="onnxruntime",
            passed=True,
            speedup=Speedup(2.5, 2.5, 2.5, 0),
            auto=True,
            figures=HELD,
        ),
        AcceptanceReport(
            precision="int8",
            backend="openvino",
            passed=False,
            speedup=Speedup(3.0, 3.0, 3.0, 0),
            auto=False,
            figures=HELD,
        ),
        # may be named; auto skips variants that are slower than fp32
        AcceptanceReport(
            precision="int8", backend="torch", passed=True, speedup=Speedup(0.5, 0.5, 0.5, 0), auto=False, figures=HELD
        ),
    )


def test_a_bundle_with_only_fp32_has_no_gates(tiny):
    assert inspect_bundle(tiny).gates == ()


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_an_invalid_graph_is_named_in_the_error(tiny, tmp_path, monkeypatch, library):
    pytest.importorskip(library)
    path = rewrite(tiny, tmp_path / "b", **{"vae_encoder.fp32.onnx": b"\xff\xff\xff"})
    if library == "onnxruntime":
        find = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a))
    with pytest.raises(ModelError, match=r"^vae_encoder\.fp32\.onnx"):
        inspect_bundle(path)


def test_a_damaged_bundle_raises_before_its_graphs_are_read(tiny_copy):
    (tiny_copy / "golden.npz").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"golden\.npz"):
        inspect_bundle(tiny_copy)


def test_a_report_converts_to_json(tiny, without_onnx):
    report = inspect_bundle(tiny)
    body = json.loads(json.dumps(report.to_json()))
    assert body["spec"] == json.loads(json.dumps(report.spec.to_json()))
    assert [g["inputs"] for g in body["graphs"]] == [list(g.inputs) for g in report.graphs]
    assert replace(report, path="").to_json()["path"] == ""
