"""What TensorRT-RTX does for the capabilities it knows, and for the GPU that is here."""

from __future__ import annotations

import shutil

import pytest
from variants import require_rtx, shared_variants

from leakrt.engines.library.device import find_driver


@pytest.mark.skipif(find_driver().library is not None, reason="there is a GPU here")
def test_engines_are_built_without_a_gpu_and_only_reading_them_waits_for_one(run_script, tmp_path):
    require_rtx()
    shutil.copytree(shared_variants(), tmp_path / "bundle")
    code, found = run_script("rtx_engines")
    assert (code, found["failures"]) == (0, [])
    portable = found["default capabilities"]
    assert portable["built"] is True
    for graph in ("vae_encoder", "leak_encoder"):
        assert portable[graph]["bytes"] > 0
        assert portable[graph]["read"] == "skipped: no GPU"
    assert found["current capabilities"]["built"] is False
    assert "no NVIDIA driver here" in found["current capabilities"]["why"]


def test_without_a_bundle_it_is_skipped(run_script):
    require_rtx()
    assert run_script("rtx_engines")[1]["skipped"] == "there is no bundle: the part before failed"
