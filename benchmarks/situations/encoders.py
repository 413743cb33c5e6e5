"""Encoders that users bring: whether an unfit one is ever accepted, and whether a valid one gives its latents."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from leakrt.core.errors import LeakRTError
from leakrt.core.spec import ModelSpec
from leakrt.export.vae_graph import export_vae
from leakrt.train.onnx_vae import OnnxVae
from situations.row import Inputs, Row

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from export.test_users_encoders import KINDS, with_outputs
from onnx import helper
from onnx_encoders import WEIGHT, branching, conv, encoder, noisy, plain

_SIZE, _SCALE = 40, 0.31
_SPEC = ModelSpec(class_names=("a", "b"), real_class="b", image_size=_SIZE, timesteps=(0,), embedding_dim=8)
_CLOSE = 1e-5

Models = Mapping[str, Callable[[], onnx.ModelProto]]


def measure(inputs: Inputs) -> list[Row]:
    """Every situation of an encoder from outside."""
    return [_refused("draws random numbers", _RANDOM), _refused("is no encoder of 4 latents", _UNFIT), _accepted()]


def _refused(situation: str, models: Models) -> Row:
    wrong = [name for name, build in models.items() if _opens(build())]
    figure = f"{len(models) - len(wrong)} refused{': accepted ' + ', '.join(wrong) if wrong else ''}"
    return Row(situation=situation, tried=len(models), silent=len(wrong), figure=figure, target="all refused")


def _opens(model: onnx.ModelProto) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            export_vae(OnnxVae(str(path), _SCALE, _SIZE), _SPEC)
        except LeakRTError:
            return False
    return True


def _accepted() -> Row:
    """Valid files: what is refused is a miss, and other latents than ONNX Runtime gives of the file are silent."""
    images = np.random.default_rng(5).uniform(-1, 1, (3, 3, _SIZE, _SIZE)).astype(np.float32)
    refused, silent = [], 0
    for name, build in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "encoder.onnx"
            path.write_bytes(build().SerializeToString())
            try:
                vae = OnnxVae(str(path), _SCALE, _SIZE)
                exported = export_vae(vae, _SPEC)
            except LeakRTError as error:
                refused.append(f"{name} ({error})")
                continue
        file = ort.InferenceSession(vae.model, providers=["CPUExecutionProvider"])
        expected = _SCALE * np.concatenate([file.run(None, {"pixels": image[None]})[0] for image in images])
        graph = ort.InferenceSession(exported, providers=["CPUExecutionProvider"])
        for found in (vae.encode(images), graph.run(None, {"image": images})[0]):
            silent += bool(np.abs(found - expected).max() > _CLOSE)
    figure = f"{len(refused)} refused{': ' + '; '.join(refused) if refused else ''}"
    return Row(
        situation="valid: order, names, If, Loop, functions, opsets, halves",
        tried=len(KINDS),
        silent=silent,
        figure=figure,
        target="0 refused",
        met=not refused,
    )


def _dropout() -> onnx.ModelProto:
    weights = {"w": WEIGHT, "ratio": np.array(0.1, np.float32), "mode": np.array(True)}
    return encoder([conv(), helper.make_node("Dropout", ["z", "ratio", "mode"], ["out"])], weights=weights)


def _multiplied(factor: float) -> onnx.ModelProto:
    weights = {"w": WEIGHT, "factor": np.array(factor, np.float32)}
    return encoder([conv(), helper.make_node("Mul", ["z", "factor"], ["out"])], weights=weights)


def _wide(channels: int, stride: int) -> onnx.ModelProto:
    weight = np.random.default_rng(0).standard_normal((channels, 3, stride, stride)).astype(np.float32)
    node = helper.make_node("Conv", ["pixels", "w"], ["out"], kernel_shape=[stride] * 2, strides=[stride] * 2)
    return encoder([node], weights={"w": weight})


def _over_the_batch() -> onnx.ModelProto:
    nodes = [
        conv(),
        helper.make_node("ReduceMean", ["z"], ["m"], axes=[0]),
        helper.make_node("Add", ["z", "m"], ["out"]),
    ]
    return encoder(nodes)


_RANDOM: Models = {
    "RandomNormal": lambda: noisy("RandomNormal", shape=[1]),
    "RandomUniform": lambda: noisy("RandomUniform", shape=[1]),
    "RandomNormalLike": lambda: noisy("RandomNormalLike"),
    "RandomUniformLike": lambda: noisy("RandomUniformLike"),
    "Bernoulli": lambda: encoder(
        [conv(), helper.make_node("Sigmoid", ["z"], ["p"]), helper.make_node("Bernoulli", ["p"], ["out"])]
    ),
    "Dropout in training": _dropout,
    "in a branch": lambda: branching(
        [conv(target="y"), helper.make_node("RandomNormalLike", ["y"], ["a"])], [conv(target="b")]
    ),
}
_UNFIT: Models = {
    "8 moment channels": lambda: _wide(8, 8),
    "16 channels": lambda: _wide(16, 8),
    "a factor of 4": lambda: _wide(4, 4),
    "constant": lambda: _multiplied(0.0),
    "NaN": lambda: _multiplied(float("nan")),
    "infinity": lambda: _multiplied(float("inf")),
    "several outputs, none called latent": lambda: with_outputs("a", "b"),
    "two outputs called latent and mean": lambda: with_outputs("latent", "mean"),
    "another fixed size": lambda: plain(shape=(1, 3, 64, 64)),
    "a fixed batch of 4": lambda: plain(shape=(4, 3, _SIZE, _SIZE)),
    "statistics over the batch": _over_the_batch,
}
