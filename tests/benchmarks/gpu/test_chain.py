"""A backend's chain on a small bundle: engines' chain on host memory, and engines really built where they can be."""

from __future__ import annotations

import json
import sys

import pytest

pytest.importorskip("onnx", reason="engines are derived with onnx")

from leakrt.core.bundle import Bundle
from leakrt.engines.library.device import find_driver


def test_frames_go_through_the_chain_of_engines_on_host_memory(tiny, run_script):
    code, found = run_script("chain", "--rehearse", "--backend", "tensorrt", "--bundle", tiny)
    assert (code, found["failures"]) == (0, [])
    measured = found["fp32"]
    assert measured["accuracy"]["same bits again"]
    assert measured["description"]["device"] == "host memory"
    one = measured["batch 1"]
    assert list(one["stages_ms"]) == ["copy_in", "preprocess", "vae", "noising", "leak", "copy_out"]
    assert one["overhead_ms"] >= 0  # stages lie within the call
    assert one["p99_over_p50"] >= 1


def test_a_backend_that_needs_a_gpu_is_skipped_in_a_rehearsal(tiny, run_script):
    code, found = run_script("chain", "--rehearse", "--backend", "tensorrt_rtx", "--bundle", tiny)
    assert (code, found["skipped"]) == (0, "no GPU")


@pytest.mark.skipif(find_driver().library is not None, reason="there is a GPU here")
def test_without_a_gpu_the_chain_itself_is_skipped(tiny, run_script):
    code, found = run_script("chain", "--backend", "tensorrt", "--bundle", tiny)
    assert (code, found["skipped"]) == (0, "no GPU")


def test_outputs_that_differ_are_a_failure(script, tiny, tmp_path, monkeypatch):
    """Of a chain that is given other frames than those that were expected."""
    import numpy as np

    monkeypatch.setattr(
        sys, "argv", ["chain", "--out", str(tmp_path / "o.json"), "--work", str(tmp_path), "--rehearse"]
    )
    chain, bundle = script("chain"), Bundle(tiny)
    part = sys.modules["part"].Part("")
    frame = bundle.golden().image
    plain = chain.Subject(part, bundle, "tensorrt", "fp32", {})
    loaded = plain.load((1,))
    run = chain.chain_of(loaded, bundle.spec.draws)
    outputs = run([frame, frame]).outputs
    names = ("scores", "embedding", "gates", "step_weights")
    expected = {name: getattr(outputs, name) for name in names}
    for moved, failed in ((0.0, False), (5.0, True)):
        wanted = {name: array + np.float32(moved) for name, array in expected.items()} | {
            "frame_0": frame,
            "frame_1": frame,
        }
        part._failed.clear()
        chain.accuracy(chain.Subject(part, bundle, "tensorrt", "fp32", wanted), run)
        assert bool(part._failed) == failed
    chain.close(loaded)


@pytest.mark.skipif(find_driver().library is not None, reason="there is a GPU here")
def test_engines_are_built_for_the_default_where_this_gpu_is_refused(script, tiny, tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "argv", ["chain", "--out", str(tmp_path / "o.json"), "--work", str(tmp_path)])
    chain = script("chain")
    part = sys.modules["part"].Part("")
    subject = chain.Subject(part, Bundle(tiny), "tensorrt_rtx", "fp32", {})
    told = subject._build((1,))
    assert [engine["graph"] for engine in told] == ["vae_encoder", "leak_encoder"]
    assert all(tuple(engine["targets"]) == ("default",) and engine["bytes"] > 0 for engine in told)
    kept = json.loads((tmp_path / "o.json").read_text())["fp32"]
    assert "no NVIDIA driver" in kept["refused for this GPU, batches (1,)"]
