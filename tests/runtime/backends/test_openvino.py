"""The OpenVINO backend matches ONNX Runtime and checks the graphs' names, shapes, types and bytes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bundles import leak_encoder
from graph_checks import half_output

from leakrt.core.bundle import Bundle
from leakrt.core.errors import BackendError, MissingExtraError, ModelError
from leakrt.core.outputs import LeakOutputs
from leakrt.runtime.backends import openvino, registry
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
from leakrt.runtime.backends.openvino import OpenVinoBackend

NEEDED = pytest.mark.skipif(
    not openvino.probe().runs, reason="openvino is not installed: pip install 'leakrt[openvino]'"
)


@pytest.fixture(scope="module")
def variant(tiny):
    bundle = Bundle(tiny)
    return Variant(bundle.spec, "fp32", bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32"))


def images(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 3, 40, 40), dtype=np.float32)


@NEEDED
@pytest.mark.parametrize("batch", [1, 3])
def test_both_graphs_match_onnxruntime(variant, batch):
    ours, reference = OpenVinoBackend(variant, 1), OnnxRuntimeBackend(variant, 1)
    latent = ours.vae_encoder(images(batch))
    assert (latent.shape, latent.dtype) == ((batch, 4, 5, 5), np.float32)
    np.testing.assert_allclose(latent, reference.vae_encoder(images(batch)), atol=1e-5)
    noised = np.repeat(latent[:, None], 3, axis=1)
    found, wanted = ours.leak_encoder(noised), reference.leak_encoder(noised)
    for name in LeakOutputs.__dataclass_fields__:
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), atol=1e-5)


@NEEDED
def test_an_image_gives_the_same_latent_in_every_batch_and_with_every_number_of_threads(variant):
    single, wide = OpenVinoBackend(variant, 1), OpenVinoBackend(variant, 2)
    batch = single.vae_encoder(images(3))
    for i in range(3):
        np.testing.assert_array_equal(single.vae_encoder(images(3)[i : i + 1])[0], batch[i])
        np.testing.assert_array_equal(wide.vae_encoder(images(3)[i : i + 1])[0], batch[i])


@NEEDED
def test_a_result_is_not_overwritten_by_the_next_run(variant):
    backend = OpenVinoBackend(variant, 1)
    first = backend.vae_encoder(images(1, 1))
    kept = first.copy()
    backend.vae_encoder(images(1, 2))
    np.testing.assert_array_equal(first, kept)


@NEEDED
def test_an_embedding_far_from_every_prototype_keeps_finite_scores(variant):
    pytest.importorskip("onnx")
    far = np.full((3, 2, 12), 40.0, np.float32)
    wanted = replace(variant, leak_encoder=leak_encoder(variant.spec, far))
    noised = np.random.default_rng(0).standard_normal((1, 3, 4, 5, 5), dtype=np.float32)
    found = OpenVinoBackend(wanted, 1).leak_encoder(noised).scores
    assert found.max() < -200  # where exp underflows
    np.testing.assert_allclose(found, OnnxRuntimeBackend(wanted, 1).leak_encoder(noised).scores, rtol=1e-5)


@NEEDED
def test_it_runs_in_float32_on_cpus_with_bfloat16(variant):
    compiled = OpenVinoBackend(variant, 1)._vae._compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


@NEEDED
def test_it_describes_itself(variant):
    described = OpenVinoBackend(variant, 2).describe()
    assert (described.backend, described.precision, described.threads) == ("openvino", "fp32", 2)
    assert described.version[0].isdigit()
    assert described.device


@NEEDED
@pytest.mark.parametrize("graph", ["vae_encoder", "leak_encoder"])
@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x08\x08", b"<?xml version='1.0'?><net version='11'/>"])
def test_bytes_that_are_not_a_graph_raise_one_line_with_the_graphs_name(variant, graph, data, capfd):
    with pytest.raises(ModelError, match=f"^{graph}: ") as error:
        OpenVinoBackend(replace(variant, **{graph: data}), 1)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


@NEEDED
def test_swapped_graphs_are_found_at_load(variant):
    with pytest.raises(ModelError, match=r"^vae_encoder: the inputs are \['noised'\], expected image \[B, 3, 40, 40\]"):
        OpenVinoBackend(replace(variant, vae_encoder=variant.leak_encoder), 1)


@NEEDED
def test_an_encoder_with_the_wrong_output_shape_is_named_with_both_shapes(variant):
    bundles = pytest.importorskip("bundles")
    pytest.importorskip("onnx")
    wrong = bundles.vae_encoder(variant.spec, channels_out=16)
    with pytest.raises(
        ModelError, match=r"^vae_encoder: latent has shape .*16, 5, 5\], expected latent \[B, 4, 5, 5\]"
    ):
        OpenVinoBackend(replace(variant, vae_encoder=wrong), 1)


@NEEDED
def test_another_type_is_refused(variant):
    pytest.importorskip("onnx")
    with pytest.raises(ModelError, match=r"^vae_encoder: latent has type f16, expected float32"):
        OpenVinoBackend(replace(variant, vae_encoder=half_output(variant.vae_encoder, "latent")), 1)


@NEEDED
def test_weights_outside_the_verified_bytes_are_not_loaded(variant, tmp_path, monkeypatch):
    onnx = pytest.importorskip("onnx")
    model = onnx.load_model_from_string(variant.vae_encoder)
    for tensor in model.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, f"{tensor.name}.bin")
        (tmp_path / f"{tensor.name}.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"^vae_encoder: the graph has external weights"):
        OpenVinoBackend(replace(variant, vae_encoder=model.SerializeToString()), 1)


def test_a_missing_library_is_reported_with_its_install_command(variant, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    found = openvino.probe()
    assert not found.runs
    assert found.install == "pip install 'leakrt[openvino]'"
    with pytest.raises(BackendError, match=r"pip install 'leakrt\[openvino\]'"):
        registry.choose("openvino")
    with pytest.raises(MissingExtraError, match=r"pip install 'leakrt\[openvino\]'"):
        OpenVinoBackend(variant, 1)


@NEEDED
def test_an_output_with_two_names_is_found_by_the_graphs_name(variant):
    onnx = pytest.importorskip("onnx", reason="the graph is drawn with onnx")
    model = onnx.load_model_from_string(variant.leak_encoder)
    inner = "/head/ReduceLogSumExp_output_0"  # which of two names comes first depends on their hashes
    constants = {"mean": np.float32(1.79), "scale": np.float32(0.8)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in constants.items())
    for node in model.graph.node:
        node.output[:] = [inner if name == "scores" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Sub", [inner, "mean"], ["centred"]))
    model.graph.node.append(onnx.helper.make_node("Mul", ["scale", "centred"], ["scores"]))
    scaled = replace(variant, leak_encoder=model.SerializeToString())
    noised = np.repeat(images(1)[:, None, :1, :5, :5], 3, axis=1).repeat(4, axis=2)
    found = OpenVinoBackend(scaled, 1).leak_encoder(noised).scores
    np.testing.assert_allclose(found, OnnxRuntimeBackend(scaled, 1).leak_encoder(noised).scores, atol=1e-5)
