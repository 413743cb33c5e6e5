"""The bundle that is measured: whole, in two precisions, and honest of what nobody measured."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("onnx", reason="graphs are written with onnx")

from leakrt.core.bundle import Bundle
from leakrt.core.errors import BundleError


def test_a_precision_without_a_gate_is_refused_by_a_detector_and_loaded_by_a_part(made, script):
    from leakrt import Detector
    from leakrt.runtime.loaded import LoadedVariant

    bundle = Bundle(made)
    assert bundle.precisions == ("fp32", "fp16")
    with pytest.raises(BundleError, match="fp16 has not passed its acceptance test"):
        Detector.load(made, backend="onnxruntime", precision="fp16")
    loading = script("loading")
    for precision in bundle.precisions:
        loaded = LoadedVariant.load(bundle, precision, "onnxruntime", threads=1)
        verdict = loading.detector_of(bundle, loaded).check(bundle.golden().image)
        assert (verdict.precision, verdict.error) == (precision, None)


def test_what_it_has_to_give_lies_beside_it(made, tmp_path):
    with np.load(tmp_path / "expected.npz") as expected:
        assert {"frame_0", "frame_3", "scores", "embedding", "gates", "step_weights"} <= set(expected)
        assert np.isfinite(expected["scores"]).all()
        assert np.array_equal(expected["frame_0"], Bundle(made).golden().image)


def test_what_was_made_is_not_made_again(made, script, run_in):
    assert run_in(script("make_bundle"))[1]["made"] == "before; nothing has changed"
