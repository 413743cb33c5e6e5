"""ONNX encoders with external weights or several outputs, and how runs reopen them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bundles import vae_encoder
from runs import SPEC

from leakrt.core.errors import ModelError, UsageError
from leakrt.train.latent_checks import probe_images
from leakrt.train.onnx_vae import OnnxVae
from leakrt.train.vae import open_vae, reopen_vae

onnx = pytest.importorskip("onnx")
SIZE = SPEC.image_size


def two_outputs(path, names=("first", "second")):
    """An encoder whose second output is the exponential of its first."""
    parsed = onnx.load_model_from_string(vae_encoder(SPEC))
    parsed.graph.node[-1].output[0] = parsed.graph.output[0].name = names[0]
    parsed.graph.node.append(onnx.helper.make_node("Exp", [names[0]], [names[1]]))
    parsed.graph.output.append(onnx.helper.make_tensor_value_info(names[1], onnx.TensorProto.FLOAT, None))
    onnx.save(parsed, path)
    return f"onnx:{path}"


def test_the_named_output_is_the_latent(tmp_path):
    option, images = two_outputs(tmp_path / "e.onnx"), probe_images(2, SIZE)
    first, second = (open_vae(option, 1.0, SIZE, output=name) for name in ("first", "second"))
    np.testing.assert_allclose(np.exp(first.encode(images)), second.encode(images), rtol=1e-5)
    assert first.description.fingerprint != second.description.fingerprint


@pytest.mark.parametrize("name", ["latent", "mean", "latent_sample"])
@pytest.mark.parametrize("first", [True, False])
def test_an_output_with_a_known_name_is_selected_and_reported(tmp_path, name, first):
    names = (name, "other") if first else ("other", name)
    vae = open_vae(two_outputs(tmp_path / "e.onnx", names), 1.0, SIZE)
    assert vae.description.output == name
    assert vae.notes == (
        f"onnx:{tmp_path / 'e.onnx'} has the outputs {names[0]}, {names[1]}; {name} is used as the posterior mean",
    )


def test_a_single_output_is_selected_without_a_note(tmp_path):
    (tmp_path / "e.onnx").write_bytes(vae_encoder(SPEC))
    assert open_vae(f"onnx:{tmp_path / 'e.onnx'}", 1.0, SIZE).notes == ()


def test_ambiguous_outputs_need_a_choice(tmp_path):
    for names in (("first", "second"), ("latent", "mean")):
        with pytest.raises(UsageError, match=f"outputs {names[0]}, {names[1]}; choose .* with --vae-output"):
            open_vae(two_outputs(tmp_path / "e.onnx", names), 1.0, SIZE)


def test_a_run_of_an_older_version_reopens_the_first_output(tmp_path):
    chosen = open_vae(two_outputs(tmp_path / "e.onnx"), 1.0, SIZE, output="first").description
    again = reopen_vae(replace(chosen, output=""))
    assert again.description == chosen


def test_a_run_reopens_the_output_that_it_was_trained_with(tmp_path):
    chosen = open_vae(two_outputs(tmp_path / "e.onnx"), 1.0, SIZE, output="second").description
    assert reopen_vae(chosen).description == chosen
    with pytest.raises(ModelError, match="is not the VAE that the run was trained with"):
        reopen_vae(replace(chosen, output="first"))


def test_the_fingerprint_covers_weights_in_other_files(tmp_path):
    model = onnx.load_model_from_string(vae_encoder(SPEC))
    onnx.save(model, tmp_path / "e.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    before = OnnxVae(str(tmp_path / "e.onnx"), 1.0, SIZE)
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[1] ^= 1
    (tmp_path / "w.bin").write_bytes(data)
    after = OnnxVae(str(tmp_path / "e.onnx"), 1.0, SIZE)
    assert before.description.fingerprint != after.description.fingerprint
    assert b"w.bin" not in before.model


def test_weights_of_more_than_2_gib_are_refused_before_they_are_read(tmp_path):
    model = onnx.load_model_from_string(vae_encoder(SPEC))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location, tensor.dims[:] = onnx.TensorProto.EXTERNAL, [1 << 30]
    tensor.external_data.add(key="location", value="w.bin")
    with open(tmp_path / "w.bin", "wb") as handle:
        handle.truncate(4 << 30)
    onnx.save(model, tmp_path / "e.onnx")
    with pytest.raises(ModelError, match="has more than 2 GiB with its weights"):
        OnnxVae(str(tmp_path / "e.onnx"), 1.0, SIZE)


def test_a_folder_or_a_pipe_is_not_an_onnx_file(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ModelError, match="can't be read: not a file"):
            OnnxVae(str(path), 1.0, SIZE)
