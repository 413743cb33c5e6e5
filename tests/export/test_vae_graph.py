"""The exported VAE encoder against its network or file."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
from bundles import vae_encoder
from graph_checks import check_declared, operators, session

from leakrt.core.errors import ModelError
from leakrt.core.graphs import vae_encoder_graph
from leakrt.core.spec import ModelSpec
from leakrt.export.user_graph import append_scale
from leakrt.export.vae_graph import export_vae
from leakrt.train.onnx_vae import OnnxVae
from leakrt.train.sd_vae import SdVae

SPEC = ModelSpec(class_names=("a", "b"), real_class="b", image_size=40, timesteps=(0, 20), embedding_dim=24, draws=1)


@pytest.fixture(scope="module")
def sd_vae(tmp_path_factory) -> SdVae:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(1)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    vae = diffusers.AutoencoderKL(block_out_channels=(8, 8, 16, 16), norm_num_groups=4, layers_per_block=1, **blocks)
    folder = tmp_path_factory.mktemp("vae")
    vae.save_pretrained(folder)
    return SdVae(str(folder), 0.31, SPEC.image_size)


def test_a_diffusers_encoder_gives_its_scaled_mean(sd_vae):
    model = export_vae(sd_vae, SPEC)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 3, 40, 40)).astype(np.float32)
    found = session(model).run(["latent"], {"image": images})[0]
    assert np.abs(found - sd_vae.encode(images)).max() < 1e-5
    check_declared(model, vae_encoder_graph(SPEC))
    assert not operators(model).keys() & {"Shape", "Gather", "Constant", "Identity", "ConstantOfShape"}


def test_an_onnx_encoder_is_renamed_scaled_and_made_static(tmp_path):
    (tmp_path / "e.onnx").write_bytes(vae_encoder(SPEC))  # its tensors already have the bundle's names
    vae = OnnxVae(str(tmp_path / "e.onnx"), 0.31, SPEC.image_size)
    model = export_vae(vae, SPEC)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 40, 40)).astype(np.float32)
    found = session(model).run(["latent"], {"image": images})[0]
    assert np.abs(found - vae.encode(images)).max() < 1e-6
    check_declared(model, vae_encoder_graph(SPEC))


def test_an_encoder_of_opset_10_with_free_sizes_is_converted(shared):
    vae = OnnxVae(str(shared("models/vaelight_encoder.onnx")), 0.18215, SPEC.image_size)
    model = export_vae(vae, SPEC)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 3, 40, 40)).astype(np.float32)
    found = session(model).run(["latent"], {"image": images})[0]
    assert np.abs(found - vae.encode(images)).max() < 1e-5
    assert onnx.load_model_from_string(model).opset_import[0].version == 17


def test_an_encoder_that_can_not_be_converted_to_an_older_opset_is_reported(tmp_path):
    from onnx import helper

    parsed = onnx.load_model_from_string(vae_encoder(SPEC))
    parsed.graph.node[-1].output[0] = "made"
    parsed.graph.node.append(helper.make_node("Split", ["made"], ["half", "other"], axis=1, num_outputs=2))
    parsed.graph.node.append(helper.make_node("Concat", ["half", "other"], ["latent"], axis=1))
    parsed.opset_import[0].version = 18
    onnx.save(parsed, tmp_path / "new.onnx")
    with pytest.raises(ModelError, match="opset 18 and can't be converted to 17"):
        export_vae(OnnxVae(str(tmp_path / "new.onnx"), 1.0, SPEC.image_size), SPEC)


def described(path, edit):
    """The small encoder as a VAE, with its ONNX model changed by `edit`."""
    parsed = onnx.load_model_from_string(vae_encoder(SPEC))
    edit(parsed)
    onnx.save(parsed, path)
    return OnnxVae(str(path), 0.31, SPEC.image_size)


def test_inner_tensors_that_have_the_formats_names_are_renamed(tmp_path):
    def swap(parsed):
        """The file's input is called x, and inner tensors are called image and latent."""
        names = {"image": "x", "t0": "image", "t1": "latent", "latent": "y"}
        for node in parsed.graph.node:
            node.input[:] = [names.get(n, n) for n in node.input]
            node.output[:] = [names.get(n, n) for n in node.output]
        parsed.graph.input[0].name, parsed.graph.output[0].name = "x", "y"

    vae = described(tmp_path / "e.onnx", swap)
    images = np.random.default_rng(1).uniform(-1, 1, (3, 3, 40, 40)).astype(np.float32)
    found = session(export_vae(vae, SPEC)).run(["latent"], {"image": images})[0]
    assert np.abs(found - vae.encode(images)).max() < 1e-6


def test_an_encoder_made_for_a_batch_of_one_is_refused(tmp_path):
    from onnx import helper, numpy_helper

    def flatten(parsed):
        for name, shape in (("flat", [1, -1]), ("whole", [1, 4, 5, 5])):
            parsed.graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
        parsed.graph.node[-1].output[0] = "made"
        parsed.graph.node.append(helper.make_node("Reshape", ["made", "flat"], ["row"]))
        parsed.graph.node.append(helper.make_node("Reshape", ["row", "whole"], ["latent"]))

    with pytest.raises(ModelError, match=r"e\.onnx runs on one image only: its batch is fixed \(6 images"):
        export_vae(described(tmp_path / "e.onnx", flatten), SPEC)


def test_an_encoder_whose_latent_depends_on_its_batch_is_refused(tmp_path):
    from onnx import helper

    def disturb(parsed):
        parsed.graph.node[-1].output[0] = "made"
        parsed.graph.node.append(helper.make_node("ReduceMean", ["made"], ["more"], axes=[0]))
        parsed.graph.node.append(helper.make_node("Add", ["made", "more"], ["latent"]))

    with pytest.raises(ModelError, match="gives latents that depend on the rest of the batch"):
        export_vae(described(tmp_path / "e.onnx", disturb), SPEC)


def test_a_fault_in_the_conversion_is_reported_as_a_bug_in_leakrt(tmp_path, monkeypatch):
    from leakrt.export import vae_graph

    monkeypatch.setattr(vae_graph, "append_scale", lambda m, g, scale: append_scale(m, g, 2 * scale))
    with pytest.raises(ModelError, match=r"e\.onnx gives different latents after conversion, a bug in LeakRT"):
        export_vae(described(tmp_path / "e.onnx", lambda p: None), SPEC)


def test_unused_outputs_are_dropped(tmp_path):
    from onnx import TensorProto, helper

    def add(parsed):
        parsed.graph.node.append(helper.make_node("Relu", ["t2"], ["features"]))
        parsed.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", 8, 10, 10]))

    model = export_vae(described(tmp_path / "e.onnx", add), SPEC)
    assert [o.name for o in onnx.load_model_from_string(model).graph.output] == ["latent"]


def test_a_weight_among_the_inputs_is_not_an_input(tmp_path):
    from onnx import TensorProto, helper

    def list_weights(parsed):
        for tensor in parsed.graph.initializer:
            parsed.graph.input.append(helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, tensor.dims))

    model = export_vae(described(tmp_path / "e.onnx", list_weights), SPEC)
    assert [i.name for i in onnx.load_model_from_string(model).graph.input] == ["image"]


def test_the_scale_is_one_multiplication_at_the_end(tmp_path):
    parsed = onnx.load_model_from_string(export_vae(described(tmp_path / "e.onnx", lambda p: None), SPEC))
    last = parsed.graph.node[-1]
    assert (last.op_type, list(last.output)) == ("Mul", ["latent"])
    (scale,) = [t for t in parsed.graph.initializer if t.name == last.input[1]]
    assert onnx.numpy_helper.to_array(scale) == np.float32(0.31)


def test_a_vae_of_another_kind_is_refused():
    from types import SimpleNamespace

    with pytest.raises(ModelError, match="a VAE of kind torchscript can't be exported"):
        export_vae(SimpleNamespace(description=SimpleNamespace(kind="torchscript")), SPEC)
