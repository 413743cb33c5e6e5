"""`leakrt inspect`: what a bundle or an engine holds."""

from __future__ import annotations

import json

import pytest
from variants import build_rtx

from leakrt.core.files import sha256_file


def test_json_holds_spec_files_graphs_decisions_and_provenance(leakrt, tiny):
    done = leakrt("inspect", tiny, "--json")
    report = json.loads(done.out)
    assert (done.code, done.err) == (0, "")
    assert report["spec"]["class_names"] == ["real", "blocky", "smooth"]
    files = {f["name"]: f for f in report["files"]}
    for name, file in files.items():
        assert file["sha256"] == sha256_file(tiny / name)
        assert file["bytes"] == (tiny / name).stat().st_size
    assert report["decisions"]["fp32"]["false_alarm_rate"] == 0.05
    assert report["provenance"]["trained_on"] == "nothing: random weights"
    assert [g["name"] for g in report["graphs"]] == ["leak_encoder.fp32.onnx", "vae_encoder.fp32.onnx"]
    assert report["graphs"][1]["inputs"] == ["image [B, 3, 40, 40]"]


def test_people_get_every_section(leakrt, tiny):
    out = leakrt("inspect", tiny).out
    for text in (
        "model\n",
        "files, with verified SHA-256",
        "vae_encoder.fp32.onnx",
        "vae_encoder   image [B, 3, 40, 40]",
        "provenance",
        "real, blocky",
    ):
        assert text in out


def test_each_acceptance_test_is_listed_with_the_choice_of_auto(leakrt, tmp_path):
    pytest.importorskip("onnx", reason="the graphs are made with onnx")
    from guarded import guarded_bundle

    uncertain = {"passed": True, "speedup": 1.02, "speedup_interval": [0.85, 1.2]}
    fp16 = {
        "onnxruntime": {"passed": True, "speedup": 0.64},
        "openvino": {"passed": True, "speedup": 1.02},
        "openvino_bf16": uncertain,
    }
    bundle = guarded_bundle(tmp_path / "b", {}, gates={"fp16": fp16, "int8": {"onnxruntime": {"passed": False}}})
    figures, passed_over = (
        "-0.0004 100.0% 100.0% 99.9% 0 4 of 90",
        "may be slower than fp32: auto skips it, --precision selects it",
    )
    lines = [" ".join(line.split()) for line in leakrt("inspect", bundle).lines]
    for line in (
        f"fp16 on onnxruntime passed 0.64 x (0.64 to 0.64) {figures} {passed_over}",
        f"fp16 on openvino passed 1.02 x (1.02 to 1.02) {figures}",
        f"fp16 on openvino_bf16 passed 1.02 x (0.85 to 1.20) {figures} {passed_over}",
        f"int8 on onnxruntime failed 1.70 x (1.60 to 1.80) {figures} not used on this backend",
    ):
        assert line in lines
    gates = json.loads(leakrt("inspect", bundle, "--json").out)["gates"]
    assert [(g["precision"], g["backend"], g["auto"]) for g in gates] == [
        ("fp16", "onnxruntime", False),
        ("fp16", "openvino", True),
        ("fp16", "openvino_bf16", False),
        ("int8", "onnxruntime", False),
    ]


def test_figures_stand_beside_their_gate_and_lists_that_fill_screens_in_json_alone(leakrt, tmp_path):
    pytest.importorskip("onnx", reason="the graphs are made with onnx")
    from guarded import guarded_bundle

    from leakrt.core.acceptance import Changes, Comparison, Limits, Speedup, acceptance_to_json

    found = Comparison(
        images=900,
        macro_auc=0.97,
        macro_auc_drop=0.0007,
        agreement=0.981,
        agreement_confident=1.0,
        verdict_agreement=0.98,
        false_alarms=4,
        real_faces=90,
        interval=(0, 10),
        changes=Changes(verdicts=18, crossings=0, score_error=0.1, counted=700, labels=0),
    )
    gate = acceptance_to_json(found, Limits(), Speedup(1.83, 1.82, 1.84, 60))
    bundle = guarded_bundle(tmp_path / "b", {}, gates={"int8": {"onnxruntime": gate}})
    done = leakrt("inspect", bundle)
    lines = [" ".join(line.split()) for line in done.lines]
    assert "int8 on onnxruntime passed 1.83 x (1.82 to 1.84) -0.0007 98.1% 100.0% 98.0% 0 4 of 90" in lines
    assert "false_alarm_rate 0.05 0.05 0.05" in lines
    assert "agreement_confident" not in done.out
    reported = json.loads(leakrt("inspect", bundle, "--json").out)
    assert reported["gates"][0]["figures"] == json.loads(json.dumps(found.to_json()))
    assert reported["provenance"]["variants"]["int8"]["gate"]["onnxruntime"] == json.loads(json.dumps(gate))


def test_counts_come_from_the_onnx_package(leakrt, tiny):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(tiny / "vae_encoder.fp32.onnx"))
    graph = json.loads(leakrt("inspect", tiny, "--json").out)["graphs"][1]
    assert (graph["opset"], graph["nodes"]) == (17, len(model.graph.node))
    expected = sum(onnx.numpy_helper.to_array(tensor).size for tensor in model.graph.initializer)
    assert graph["parameters"] == expected


def test_without_onnx_the_session_still_gives_names_and_shapes(leakrt, tiny, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else find(name, *a))
    graph = json.loads(leakrt("inspect", tiny, "--json").out)["graphs"][1]
    assert graph["inputs"] == ["image [B, 3, 40, 40]"]
    assert graph["outputs"] == ["latent [B, 4, 5, 5]"]
    assert (graph["opset"], graph["nodes"], graph["parameters"]) == (None, None, None)
    assert "not counted; run: pip install onnx" in leakrt("inspect", tiny).out


def test_a_folder_that_is_no_bundle_is_one_line(leakrt, tmp_path):
    done = leakrt("inspect", tmp_path)
    assert done.code == 1
    assert done.err == f"leakrt: error: {tmp_path} is not a complete bundle: it has no manifest.json; copy it again\n"


def test_an_engine_report_has_layers_precisions_groups_and_memory(leakrt, tmp_path, monkeypatch):
    vae, _ = build_rtx(leakrt, tmp_path, monkeypatch, "int8", "--batch", "1,3")
    out = leakrt("inspect", vae["path"]).out
    for text in (
        "vae_encoder, int8, batch 1, 3",
        "8.6, 12.0",
        "float16 image [B, 3, 40, 40]",
        "of activations",
        "layers, compiled for 2 batch sizes, by precision",
        "fused groups",
        "QuantizeLinear",
    ):
        assert text in out
    report = json.loads(leakrt("inspect", vae["path"], "--json").out)
    groups = {(layer["kind"], layer["precision"], *layer["nodes"]) for layer in report["layers"] if layer["nodes"][1:]}
    shown = out.split(f"{len(groups)} fused groups: ")[1].splitlines()[1:]
    assert len(shown) == len(groups)  # those that both batch sizes have are listed once
    assert all(line.startswith("  2 x  ") for line in shown)
    assert report["record"]["key"] == vae["key"]
    assert report["precisions"]["int8"] > 0
    assert report["record"]["memory"]["weights"] > 0
    assert any(len(layer["nodes"]) > 1 for layer in report["layers"])


def test_an_engine_that_was_cut_short_is_one_line(leakrt, tmp_path, monkeypatch):
    from pathlib import Path

    vae, _ = build_rtx(leakrt, tmp_path, monkeypatch, "fp32")
    path = Path(vae["path"])
    path.write_bytes(path.read_bytes()[:1000])
    done = leakrt("inspect", path)
    assert done.code == 1
    assert done.err == (
        f"leakrt: error: {path}: vae_encoder.fp32.engine is truncated or changed (SHA-256 differs); "
        "rebuild it, or copy it again from the build machine\n"
    )
