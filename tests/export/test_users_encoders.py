"""Encoders of every kind that users bring, from the file to the exported graph."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
from graph_checks import session
from onnx import TensorProto, helper
from onnx_encoders import WEIGHT, branching, conv, encoder, looping, plain, value

from leakrt.core.errors import ModelError, UsageError
from leakrt.core.spec import ModelSpec
from leakrt.export.vae_graph import export_vae
from leakrt.train.encoder import VaeDescription
from leakrt.train.onnx_vae import OnnxVae
from leakrt.train.vae import reopen_vae

SIZE, SCALE = 40, 0.31
SPEC = ModelSpec(class_names=("a", "b"), real_class="b", image_size=SIZE, timesteps=(0, 20), embedding_dim=24, draws=1)
IMAGES = np.random.default_rng(1).uniform(-1, 1, (3, 3, SIZE, SIZE)).astype(np.float32)


def opened(model, path, output=None) -> OnnxVae:
    path.write_bytes(model.SerializeToString())
    return OnnxVae(str(path), SCALE, SIZE, output)


def tanh(source, target):
    return helper.make_node("Tanh", [source], [target])


def unsorted():
    return encoder([tanh("z", "out"), conv()])


def named_like_ours():
    """Tensors, weights and a node that carry every name that export adds."""
    nodes = [
        conv("pixels", "latent", "latent_scale"),
        helper.make_node("Tanh", ["latent"], ["image"], name="scale"),
        helper.make_node("Mul", ["image", "unscaled_latent"], ["latent_inner"]),
        helper.make_node("Identity", ["latent_inner"], ["out"]),
    ]
    return encoder(nodes, weights={"latent_scale": WEIGHT, "unscaled_latent": np.array(2.0, np.float32)})


def branch_named_like_ours():
    return branching([conv(target="latent"), tanh("latent", "a")], [conv(target="image"), tanh("image", "b")])


def half_inside():
    nodes = [
        helper.make_node("Cast", ["pixels"], ["half"], to=TensorProto.FLOAT16),
        conv("half", "z"),
        helper.make_node("Cast", ["z"], ["out"], to=TensorProto.FLOAT),
    ]
    return encoder(nodes, weights={"w": WEIGHT.astype(np.float16)})


def weights_among_the_inputs():
    model = plain()
    model.graph.input.append(value("w", WEIGHT.shape))
    return model


def in_a_function():
    body = [helper.make_node("Tanh", ["x"], ["y"])]
    function = helper.make_function("mine", "Act", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
    return encoder([conv(), helper.make_node("Act", ["z"], ["out"], domain="mine")], functions=[function])


def unused_operator_set():
    model = plain()
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


KINDS = {
    "unsorted": unsorted,
    "named like ours": named_like_ours,
    "branches that read the input": lambda: branching([conv(target="a")], [conv(target="b")]),
    "branches named like ours": branch_named_like_ours,
    "a loop that reads from outside": looping,
    "half precision inside": half_inside,
    "weights among the inputs": weights_among_the_inputs,
    "a function of its own": in_a_function,
    "an operator set that is not used": unused_operator_set,
    "a fixed size": lambda: plain(shape=(1, 3, SIZE, SIZE)),
    **{f"opset {n}": (lambda n=n: plain(opset=n)) for n in (7, 9, 11, 13, 15, 18, 20, 21)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_exported_graph_gives_the_latents_that_training_saw(tmp_path, kind):
    model = KINDS[kind]()
    vae = opened(model, tmp_path / "e.onnx")
    expected = session(model.SerializeToString() if kind != "unsorted" else vae.model).run(
        None, {"pixels": IMAGES[:1]}
    )[0]
    latents = vae.encode(IMAGES)
    np.testing.assert_allclose(latents[:1], SCALE * expected, atol=1e-6)
    exported = export_vae(vae, SPEC)
    onnx.checker.check_model(onnx.load_model_from_string(exported), full_check=True)
    found = session(exported).run(["latent"], {"image": IMAGES})[0]
    np.testing.assert_allclose(found, latents, atol=1e-5)


def test_weights_beside_the_file_end_up_in_the_exported_graph(tmp_path):
    onnx.save(plain(), tmp_path / "e.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    vae = OnnxVae(str(tmp_path / "e.onnx"), SCALE, SIZE)
    found = session(export_vae(vae, SPEC)).run(["latent"], {"image": IMAGES})[0]
    np.testing.assert_allclose(found, vae.encode(IMAGES), atol=1e-5)


def with_outputs(*names):
    nodes = [conv(), *(helper.make_node("Mul", ["z", f"f{i}"], [name]) for i, name in enumerate(names))]
    weights = {"w": WEIGHT, **{f"f{i}": np.array(i + 1.0, np.float32) for i in range(len(names))}}
    return encoder(nodes, outputs=names, weights=weights)


@pytest.mark.parametrize("name", ["latent", "mean", "latent_sample"])
def test_of_several_outputs_the_one_that_is_called_a_latent_is_taken(tmp_path, name):
    vae = opened(with_outputs("features", name), tmp_path / "e.onnx")
    assert vae.output_name == vae.description.output == name
    assert vae.outputs == ("features", name)


def test_of_several_outputs_one_has_to_be_named(tmp_path):
    for outputs in (("features", "moments"), ("latent", "mean")):
        with pytest.raises(ModelError, match=rf"has 2 outputs: {', '.join(outputs)}; name the latent with --vae"):
            opened(with_outputs(*outputs), tmp_path / "e.onnx")
    assert opened(with_outputs("features", "moments"), tmp_path / "e.onnx", "moments").output_name == "moments"
    with pytest.raises(UsageError, match=r"has no output 'mean'; choose one of: features, moments \(--vae-output\)$"):
        opened(with_outputs("features", "moments"), tmp_path / "e.onnx", "mean")


def test_the_output_is_part_of_what_a_run_reopens(tmp_path):
    model = with_outputs("features", "moments")
    first, second = (opened(model, tmp_path / "e.onnx", name).description for name in ("features", "moments"))
    assert first.fingerprint != second.fingerprint
    assert reopen_vae(second).output_name == "moments"
    older = {key: entry for key, entry in first.to_json().items() if key != "output"}
    assert reopen_vae(VaeDescription.from_json(older)).output_name == "features"


@pytest.mark.parametrize(
    ("channels", "stride", "remedy"),
    [
        (8, 8, "8 channels are mean and log-variance of the posterior; export the first four, the mean"),
        (
            16,
            8,
            "16 latent channels are those of Stable Diffusion 3 and FLUX; use the VAE of Stable Diffusion 1, 2 or XL",
        ),
        (4, 4, "it downsamples by 4; use an encoder that downsamples by 8"),
        (3, 8, "use an encoder with 4 latent channels"),
    ],
)
def test_another_latent_is_refused_with_a_remedy(tmp_path, channels, stride, remedy):
    weight = np.random.default_rng(0).standard_normal((channels, 3, stride, stride)).astype(np.float32)
    node = helper.make_node("Conv", ["pixels", "w"], ["out"], kernel_shape=[stride] * 2, strides=[stride] * 2)
    with pytest.raises(ModelError, match=rf"e\.onnx outputs a latent of shape .* is needed; {remedy}$"):
        opened(encoder([node], weights={"w": weight}), tmp_path / "e.onnx")


def test_an_encoder_that_downsamples_by_16_is_refused(tmp_path):
    weight = np.random.default_rng(0).standard_normal((4, 3, 16, 16)).astype(np.float32)
    node = helper.make_node("Conv", ["pixels", "w"], ["out"], kernel_shape=[16, 16], strides=[16, 16])
    (tmp_path / "e.onnx").write_bytes(encoder([node], weights={"w": weight}).SerializeToString())
    with pytest.raises(ModelError, match=r"it downsamples by 16; use an encoder that downsamples by 8$"):
        OnnxVae(str(tmp_path / "e.onnx"), SCALE, 64)


def test_latents_that_do_not_depend_on_the_image_are_refused(tmp_path):
    nodes = [conv(), helper.make_node("Mul", ["z", "zero"], ["out"])]
    model = encoder(nodes, weights={"w": WEIGHT, "zero": np.array(0.0, np.float32)})
    with pytest.raises(ModelError, match="gives one latent for all images"):
        opened(model, tmp_path / "e.onnx")


@pytest.mark.parametrize(("operator", "kind"), [("Log", "NaN"), ("Div", "infinity")])
def test_latents_that_are_not_finite_say_so(tmp_path, operator, kind):
    inputs = ["z"] if operator == "Log" else ["one", "zero"]
    nodes = [conv(), helper.make_node(operator, inputs, ["bad"]), helper.make_node("Add", ["z", "bad"], ["out"])]
    numbers = {"one": np.array(1.0, np.float32), "zero": np.array(0.0, np.float32)}
    with pytest.raises(ModelError, match=rf"outputs {kind} for images in \[-1, 1\]; export it in float32"):
        opened(encoder(nodes, weights={"w": WEIGHT, **numbers}), tmp_path / "e.onnx")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 64, 64), r"can't be run on 40 x 40 pixels: it takes .*; export it with dynamic height and width"),
        ((4, 3, SIZE, SIZE), r"can't be run on one image: it takes .*; export it with a dynamic batch$"),
        (("B", 1, SIZE, SIZE), r"takes 1 channels .*, where RGB is needed"),
    ],
)
def test_an_input_of_another_shape_is_refused_with_the_reason(tmp_path, shape, message):
    with pytest.raises(ModelError, match=message):
        opened(plain(shape=shape), tmp_path / "e.onnx")


def test_foreign_operators_are_named(tmp_path):
    nodes = [conv(), helper.make_node("Gelu", ["z"], ["out"], domain="com.microsoft")]
    model = encoder(nodes)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ModelError, match=r"uses operators of com.microsoft; only ONNX's own run$"):
        export_vae(opened(model, tmp_path / "e.onnx"), SPEC)
