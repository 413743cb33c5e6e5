"""The VAE encoders: latents, refused files and fingerprints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundles import Graph, vae_encoder
from runs import SPEC

from leakrt.core.errors import CheckpointError, ModelError, UsageError
from leakrt.core.files import sha256_bytes
from leakrt.train.vae import PREPROCESS_VERSION, VaeDescription, open_vae, reopen_vae

pytest.importorskip("onnx")
SIZE = SPEC.image_size


def images(count: int, size: int = SIZE, seed: int = 0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 3, size, size)).astype(np.float32)


@pytest.fixture
def onnx_file(tmp_path) -> Path:
    path = tmp_path / "vae.onnx"
    path.write_bytes(vae_encoder(SPEC))
    return path


def graph(build, shape=("B", 3, SIZE, SIZE), name="pixels", opset=17, element=1, gives=None) -> bytes:
    """An encoder with the nodes of `build(Graph, input name)`; the last node's output is the latent."""
    from onnx import helper

    g = Graph(np.random.default_rng(0))
    out = build(g, name)
    model = helper.make_model(
        helper.make_graph(
            g.nodes,
            "g",
            [helper.make_tensor_value_info(name, element, list(shape))],
            [helper.make_tensor_value_info(out, gives or element, None)],
            g.weights,
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    return model.SerializeToString()


def eighth(channels: int = 4):
    return lambda g, x: g.conv(x, 3, channels, kernel=8, stride=8)


def test_an_onnx_encoder_gives_its_output_times_the_scale(onnx_file):
    import onnxruntime as ort

    session = ort.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    batch = images(3)
    expected = session.run(None, {"image": batch})[0]
    found = open_vae(f"onnx:{onnx_file}", 0.25, SIZE).encode(batch)
    assert found.dtype == np.float32
    assert found.shape == (3, 4, SIZE // 8, SIZE // 8)
    np.testing.assert_allclose(found, 0.25 * expected, atol=1e-6)


def test_an_onnx_encoder_without_a_scale_gets_that_of_stable_diffusion(onnx_file):
    assert open_vae(f"onnx:{onnx_file}", None, SIZE).description.scale == 0.18215


def test_latents_are_the_same_bits_in_every_batch(onnx_file):
    vae, batch = open_vae(f"onnx:{onnx_file}", 1.0, SIZE), images(5)
    one_by_one = np.concatenate([vae.encode(image[None]) for image in batch])
    assert np.array_equal(vae.encode(batch), one_by_one)
    assert vae.encode(batch[:0]).shape == (0, 4, SIZE // 8, SIZE // 8)


@pytest.mark.parametrize("opset", [11, 13, 17, 19])
def test_any_input_name_opset_and_dynamic_size_is_accepted(tmp_path, opset):
    path = tmp_path / "any.onnx"
    path.write_bytes(graph(eighth(), ("b", 3, "height", "width"), "x:0", opset))
    assert open_vae(f"onnx:{path}", 1.0, 48).encode(images(2, 48)).shape == (2, 4, 6, 6)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: vae_encoder(SPEC, channels_out=8), r"shape \[1, 8, 4, 4\] .* \[1, 4, 4, 4\] is needed: .* the mean"),
        (lambda: graph(lambda g, x: g.conv(x, 3, 4, kernel=4, stride=4)), r"shape \[1, 4, 8, 8\]"),
        (lambda: graph(lambda g, x: g.op("Flatten", x)), r"shape \[1, 3072\]"),
        (lambda: graph(eighth(), ("B", 3, 64, 64)), "takes images of 64 x 64 only, but --image-size is 32"),
        (lambda: graph(lambda g, x: g.op("Relu", x), ("B", 3)), r"takes pixels tensor\(float\)"),
        (lambda: graph(lambda g, x: g.op("Relu", x), element=10), r"tensor\(float16\)"),
        (
            lambda: graph(lambda g, x: g.op("Cast", eighth()(g, x), to=11), gives=11),
            r"gives tensor\(double\) as t1; a float32 latent is needed",
        ),
        (lambda: b"no model", "can't be loaded"),
        (lambda: b"", "can't be loaded"),
        (lambda: vae_encoder(SPEC)[:500], "can't be loaded"),
    ],
)
def test_an_onnx_file_that_is_not_an_encoder_is_refused_in_one_line(tmp_path, model, message):
    path = tmp_path / "bad.onnx"
    path.write_bytes(model())
    with pytest.raises(ModelError, match=message) as error:
        open_vae(f"onnx:{path}", 1.0, SIZE)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("option", "scale", "error", "message"),
    [
        ("builtin", None, ModelError, "no trained weights yet"),
        ("taesd", None, UsageError, "choose sd:ID_OR_FOLDER, onnx:FILE or builtin"),
        ("onnx:", None, UsageError, "choose sd:ID_OR_FOLDER"),
        ("onnx:/no/such.onnx", None, ModelError, "can't be read"),
        ("onnx:/", None, ModelError, "can't be read"),
        ("builtin", -1.0, UsageError, "VAE scale -1.0"),
        ("builtin", float("nan"), UsageError, "VAE scale nan"),
    ],
)
def test_an_invalid_option_is_refused(option, scale, error, message):
    with pytest.raises(error, match=message):
        open_vae(option, scale, SIZE)


def test_the_fingerprint_depends_on_weights_scale_and_size_but_not_on_the_path(tmp_path, onnx_file):
    def fingerprint(path=onnx_file, scale=0.5, size=SIZE):
        return open_vae(f"onnx:{path}", scale, size).description.fingerprint

    moved = tmp_path / "moved.onnx"
    moved.write_bytes(onnx_file.read_bytes())
    other = tmp_path / "other.onnx"
    other.write_bytes(vae_encoder(SPEC, seed=9))
    dynamic = tmp_path / "dynamic.onnx"
    dynamic.write_bytes(graph(eighth(), ("b", 3, "h", "w")))
    assert fingerprint(moved) == fingerprint()
    assert len({fingerprint(), fingerprint(other), fingerprint(scale=0.6)}) == 3
    assert fingerprint(dynamic) != fingerprint(dynamic, size=64)


def test_a_run_reopens_only_its_own_encoder(tmp_path, onnx_file, monkeypatch):
    monkeypatch.chdir(onnx_file.parent)
    described = open_vae(f"onnx:{onnx_file.name}", 0.5, SIZE).description
    monkeypatch.chdir("/")
    assert reopen_vae(described).description == described
    moved = onnx_file.rename(tmp_path / "moved.onnx")
    with pytest.raises(ModelError, match="can't be read"):
        reopen_vae(described)
    assert reopen_vae(described, source=str(moved)).description.fingerprint == described.fingerprint
    moved.write_bytes(vae_encoder(SPEC, seed=9))
    with pytest.raises(ModelError, match="is not the VAE that the run was trained with"):
        reopen_vae(described, source=str(moved))


def test_a_description_round_trips_and_a_damaged_one_is_refused(onnx_file):
    described = open_vae(f"onnx:{onnx_file}", 0.5, SIZE).description
    assert VaeDescription.from_json(described.to_json()) == described
    for change in ({"scale": "1"}, {"extra": 1}, {"kind": 3}, {"image_size": 1.5}):
        with pytest.raises(CheckpointError):
            VaeDescription.from_json({**described.to_json(), **change})


def test_a_description_without_an_output_means_the_first_one(onnx_file):
    described = open_vae(f"onnx:{onnx_file}", 0.5, SIZE).description
    older = described.to_json()
    assert older.pop("output") == "latent"
    assert VaeDescription.from_json(older) == replace(described, output="")
    assert reopen_vae(VaeDescription.from_json(older)).description.fingerprint == described.fingerprint


def test_the_fingerprint_of_a_file_with_one_output_is_stable_across_versions(onnx_file):
    text = f"{sha256_bytes(onnx_file.read_bytes())} 0.5 {SIZE} {PREPROCESS_VERSION}"
    assert open_vae(f"onnx:{onnx_file}", 0.5, SIZE).description.fingerprint == sha256_bytes(text.encode())


def test_a_named_output_of_an_autoencoder_kl_is_refused():
    with pytest.raises(UsageError, match="--vae-output mean: only an ONNX encoder has named outputs"):
        open_vae("sd:/some/folder", None, SIZE, output="mean")
