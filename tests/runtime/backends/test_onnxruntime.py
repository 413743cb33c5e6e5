"""The ONNX Runtime backend checks the graphs' names, shapes and types."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from graph_checks import half_output

from leakrt.core.bundle import Bundle
from leakrt.core.errors import ModelError
from leakrt.runtime.backends import onnxruntime
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend


@pytest.fixture(scope="module")
def variant(tiny):
    bundle = Bundle(tiny)
    return Variant(bundle.spec, "fp32", bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32"))


@pytest.mark.parametrize("batch", [1, 3])
def test_both_graphs_return_the_shapes_and_types_of_the_format(variant, batch):
    backend = OnnxRuntimeBackend(variant, 1)
    rng = np.random.default_rng(0)
    latent = backend.vae_encoder(rng.standard_normal((batch, 3, 40, 40), dtype=np.float32))
    assert (latent.shape, latent.dtype) == ((batch, 4, 5, 5), np.float32)
    outputs = backend.leak_encoder(np.repeat(latent[:, None], 3, axis=1))
    assert outputs.scores.shape == (batch, 3)
    assert outputs.embedding.shape == outputs.gates.shape == (batch, 12)
    np.testing.assert_allclose(outputs.step_weights.sum(axis=1), 1.0, atol=1e-6)


def test_it_describes_itself(variant):
    described = OnnxRuntimeBackend(variant, 2).describe()
    assert (described.backend, described.precision, described.threads) == ("onnxruntime", "fp32", 2)
    assert described.version[0].isdigit()


@pytest.mark.parametrize("graph", ["vae_encoder", "leak_encoder"])
@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x08\x08"])
def test_bytes_that_are_not_a_graph_raise_one_line_with_the_graphs_name(variant, graph, data, capfd):
    with pytest.raises(ModelError, match=f"^{graph}: ONNX Runtime can't load it") as error:
        OnnxRuntimeBackend(replace(variant, **{graph: data}), 1)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


def test_an_encoder_with_the_wrong_output_shape_is_named_with_both_shapes(variant):
    bundles = pytest.importorskip("bundles", reason="needs tests/bundles.py")
    pytest.importorskip("onnx")
    wrong = bundles.vae_encoder(variant.spec, channels_out=16)
    with pytest.raises(
        ModelError, match=r"^vae_encoder: latent has shape .*16, 5, 5\], expected latent \[B, 4, 5, 5\]"
    ):
        OnnxRuntimeBackend(replace(variant, vae_encoder=wrong), 1)


def test_a_wrong_shape_at_run_time_is_named(variant):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(variant.vae_encoder)
    # NonZero returns the sizes, so they are unknown before a run.
    model.graph.node[-1].output[0] = "whole"
    helper, int64 = onnx.helper, onnx.TensorProto.INT64
    kept = helper.make_tensor("kept", int64, [4], [1, 1, 1, 1])
    model.graph.initializer.extend([kept, helper.make_tensor("axis", int64, [1], [3])])
    model.graph.initializer.extend([helper.make_tensor("zero", int64, [1], [0])])
    nodes = [
        helper.make_node("NonZero", ["kept"], ["places"]),
        helper.make_node("Shape", ["places"], ["count"]),
        helper.make_node("Slice", ["count", "one", "two", "zero"], ["end"]),
        helper.make_node("Slice", ["whole", "zero", "end", "axis"], ["latent"]),
    ]
    model.graph.initializer.extend(
        [helper.make_tensor("one", int64, [1], [1]), helper.make_tensor("two", int64, [1], [2])]
    )
    model.graph.node.extend(nodes)
    dims = model.graph.output[0].type.tensor_type.shape.dim
    del dims[:]
    for name in ("B", "c", "h", "w"):
        dims.add().dim_param = name
    backend = OnnxRuntimeBackend(replace(variant, vae_encoder=model.SerializeToString()), 1)
    with pytest.raises(
        ModelError, match=r"^vae_encoder: latent has shape \[1, 4, 5, 4\], expected latent \[B, 4, 5, 5\]"
    ):
        backend.vae_encoder(np.zeros((1, 3, 40, 40), np.float32))


def test_swapped_graphs_are_found_at_load(variant):
    with pytest.raises(ModelError, match=r"^vae_encoder: the inputs are \['noised'\], expected image \[B, 3, 40, 40\]"):
        OnnxRuntimeBackend(replace(variant, vae_encoder=variant.leak_encoder), 1)


def test_another_type_is_refused(variant):
    pytest.importorskip("onnx")
    with pytest.raises(ModelError, match=r"^vae_encoder: latent has type tensor\(float16\), expected float32"):
        OnnxRuntimeBackend(replace(variant, vae_encoder=half_output(variant.vae_encoder, "latent")), 1)


def test_weights_outside_the_verified_bytes_are_not_loaded(variant, tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(variant.vae_encoder)
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, "weights.bin")
        data = tensor.raw_data
        tensor.ClearField("raw_data")
        (tmp_path / "weights.bin").write_bytes(data * 100)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"^vae_encoder: "):
        OnnxRuntimeBackend(replace(variant, vae_encoder=model.SerializeToString()), 1)


def test_a_missing_library_is_reported_with_its_install_command(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = onnxruntime.probe()
    assert not found.runs
    assert "not installed" in found.reason
    assert found.install == "pip install onnxruntime"


def test_importing_it_starts_no_telemetry(tmp_path):
    """ONNX Runtime 1.32 on Linux writes an identifier of the machine there."""
    environment = {k: v for k, v in os.environ.items() if "TELEMETRY" not in k} | {
        name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    }
    code = "import leakrt, time, leakrt.runtime.backends.onnxruntime as b; assert b.probe().runs; time.sleep(0.3)"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert list(tmp_path.iterdir()) == []
