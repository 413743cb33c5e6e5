"""Both exported graphs against the networks they come from."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
from bundles import vae_encoder

from leakrt.core.errors import ModelError
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.core.spec import ModelSpec
from leakrt.export.leak_graph import export_leak_encoder
from leakrt.export.vae_graph import export_vae
from leakrt.train.config import TrainConfig
from leakrt.train.leak_encoder import LeakEncoder
from leakrt.train.vae import OnnxVae, SdVae

SPEC = ModelSpec(
    class_names=("a", "b", "c"), real_class="b", image_size=40, timesteps=(0, 20, 60), embedding_dim=24, draws=1
)


def operators(model: bytes) -> Counter:
    return Counter(node.op_type for node in onnx.load_model_from_string(model).graph.node)


def session(model: bytes):
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


def check_declared(model: bytes, graph) -> None:
    loaded = session(model)
    pairs = [[(v.name, v.shape) for v in values] for values in (loaded.get_inputs(), loaded.get_outputs())]
    graph.check_declared(*pairs)
    assert all(isinstance(n, int) for _, shape in (*pairs[0], *pairs[1]) for n in shape[1:])


@pytest.fixture(scope="module")
def leak() -> tuple[LeakEncoder, bytes]:
    torch.manual_seed(0)
    encoder = LeakEncoder(SPEC, TrainConfig(widths=(8, 12, 16)))
    encoder.set_latent_statistics(0.9)
    return encoder, export_leak_encoder(encoder, SPEC)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_leak_encoder_gives_what_torch_gives_at_any_batch(leak, batch):
    encoder, model = leak
    noised = np.random.default_rng(batch).standard_normal((batch, 3, 4, 5, 5)).astype(np.float32)
    with torch.inference_mode():
        wanted = [o.numpy() for o in encoder.eval()(torch.from_numpy(noised))]
    found = session(model).run([t.name for t in leak_encoder_graph(SPEC).outputs], {"noised": noised})
    for a, b in zip(found, wanted, strict=True):
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= 1e-5 * max(1.0, np.abs(b).max())


def test_leak_encoder_is_clean_and_keeps_to_its_format(leak):
    check_declared(leak[1], leak_encoder_graph(SPEC))
    found = operators(leak[1])
    assert not found.keys() & {"Shape", "Gather", "ReduceSum", "Constant", "Identity", "If", "Loop"}


def test_exporting_leaves_the_encoder_as_it_was(leak):
    encoder, model = leak
    assert export_leak_encoder(encoder, SPEC) == model


def test_a_linear_head_is_refused():
    spec = ModelSpec(class_names=("a", "b"), real_class="b", image_size=40, timesteps=(0,))
    with pytest.raises(ModelError, match="linear head"):
        export_leak_encoder(LeakEncoder(spec, TrainConfig(head="linear", widths=(8,))), spec)


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
    (tmp_path / "e.onnx").write_bytes(vae_encoder(SPEC))  # its tensors have the bundle's names already
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


def test_an_encoder_of_a_newer_opset_that_can_not_go_back_is_told(tmp_path):
    from onnx import helper

    parsed = onnx.load_model_from_string(vae_encoder(SPEC))
    split = helper.make_node("Split", ["latent"], ["half", "other"], axis=1, num_outputs=2)
    parsed.graph.node.append(split)
    parsed.opset_import[0].version = 18
    onnx.save(parsed, tmp_path / "new.onnx")
    with pytest.raises(ModelError, match="opset 18 and can't be converted to 17"):
        export_vae(OnnxVae(str(tmp_path / "new.onnx"), 1.0, SPEC.image_size), SPEC)
