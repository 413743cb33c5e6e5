"""Small real bundles for tests: graphs drawn with onnx.helper, random weights, fitted on noise. Needs onnx.

`python tests/bundles.py` writes tests/data/tiny, which tests use where onnx is not installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from leakrt.core.bundle import Golden, density_name, graph_name, write_bundle
from leakrt.core.decision import Decision
from leakrt.core.exemplars import Exemplars
from leakrt.core.spec import ModelSpec
from leakrt.core.support import Support

TINY_PATH = Path(__file__).parents[1] / "data" / "tiny"
TINY_SPEC = ModelSpec(
    class_names=("real", "blocky", "smooth"),
    real_class="real",
    image_size=40,
    vae_kind="onnx",
    timesteps=(0, 60, 150),
    noise_seed=7,
    draws=2,
    embedding_dim=12,
    prototypes_per_class=2,
)
Array = npt.NDArray[np.float32]


@dataclass
class Graph:
    """An ONNX graph under construction; every weight is drawn from `rng`."""

    rng: np.random.Generator
    nodes: list = field(default_factory=list)
    weights: list = field(default_factory=list)

    def weight(self, array: npt.NDArray) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def random(self, *shape: int, fan_in: int) -> str:
        return self.weight((self.rng.standard_normal(shape) * (2.0 / fan_in) ** 0.5).astype(np.float32))

    def op(self, kind: str, *inputs: str, out: str = "", **attributes) -> str:
        from onnx import helper

        name = out or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def conv(self, x: str, channels_in: int, channels_out: int, *, kernel: int, stride: int, out: str = "") -> str:
        w = self.random(channels_out, channels_in, kernel, kernel, fan_in=channels_in * kernel**2)
        pads = [(kernel - 1) // 2] * 4
        return self.op("Conv", x, w, out=out, strides=[stride, stride], pads=pads)

    def linear(self, x: str, features_in: int, features_out: int) -> str:
        return self.op("MatMul", x, self.random(features_in, features_out, fan_in=features_in))

    def build(self, inputs: dict[str, list], outputs: dict[str, list]) -> bytes:
        from onnx import TensorProto, checker, helper

        def infos(tensors):
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in tensors.items()]

        graph = helper.make_graph(self.nodes, "g", infos(inputs), infos(outputs), self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(model)
        return model.SerializeToString()


def vae_encoder(spec: ModelSpec, *, seed: int = 0, widths: tuple[int, int] = (6, 8), channels_out: int = 4) -> bytes:
    """image -> latent by three strided convolutions. With another `channels_out` it breaks the format."""
    g, size = Graph(np.random.default_rng(seed)), spec.image_size
    x = g.op("Relu", g.conv("image", 3, widths[0], kernel=3, stride=2))
    x = g.op("Relu", g.conv(x, widths[0], widths[1], kernel=3, stride=2))
    x = g.conv(x, widths[1], channels_out, kernel=3, stride=2)
    g.op("Mul", x, g.weight(np.float32([0.5])), out="latent")
    shape = ["B", channels_out, size // 8, size // 8]
    return g.build({"image": ["B", 3, size, size]}, {"latent": shape})


def leak_encoder(spec: ModelSpec, prototypes: Array, *, seed: int = 1, widths: tuple[int, int] = (6, 10)) -> bytes:
    """noised -> scores, embedding, gates, step_weights, as the design names them; `prototypes` [K, M, D]."""
    g, (c, s, _), steps, d = (
        Graph(np.random.default_rng(seed)),
        spec.latent_shape,
        len(spec.timesteps),
        spec.embedding_dim,
    )
    x = g.op("Reshape", "noised", g.weight(np.int64([-1, c, s, s])))
    x = g.op("Relu", g.conv(x, c, widths[0], kernel=3, stride=2))
    x = g.op("Relu", g.conv(x, widths[0], widths[1], kernel=3, stride=1))
    x = g.op("ReduceMean", x, axes=[2, 3], keepdims=0)
    h = g.op("Reshape", g.linear(x, widths[1], d), g.weight(np.int64([-1, steps, d])))
    w = g.op("Sigmoid", g.linear(g.op("Relu", g.linear(h, d, d)), d, d))
    a = g.op("Softmax", g.linear(g.op("Tanh", h), d, 1), axis=1)
    g.op("Squeeze", a, g.weight(np.int64([2])), out="step_weights")
    for source, name in ((h, "embedding"), (w, "gates")):
        pooled = g.op("MatMul", g.op("Transpose", source, perm=[0, 2, 1]), a)
        g.op("Squeeze", pooled, g.weight(np.int64([2])), out=name)
    where = g.weight(np.int64([1, 2]))
    near = g.op("Sub", g.op("Unsqueeze", "embedding", where), g.weight(prototypes))
    weighted = g.op("Mul", g.op("Unsqueeze", "gates", where), g.op("Mul", near, near))
    distance = g.op("ReduceMean", weighted, axes=[3], keepdims=0)
    g.op("ReduceLogSumExp", g.op("Neg", distance), axes=[2], keepdims=0, out="scores")
    outputs = {"scores": ["B", len(prototypes)], "embedding": ["B", d], "gates": ["B", d], "step_weights": ["B", steps]}
    return g.build({"noised": ["B", steps, c, s, s]}, outputs)


def noise_image(seed: int, *, size: int = 48) -> npt.NDArray[np.uint8]:
    """uint8 [size, size + 5, 3]: smooth noise, no photograph."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (size // 8 + 1, size // 8 + 2, 3))
    smooth = np.kron(coarse, np.ones((8, 8, 1)))[:size, : size + 5]
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def bundle_files(spec: ModelSpec, vae: bytes, leak: bytes, *, prototypes: Array) -> dict[str, bytes]:
    """All files of an fp32 bundle: support, thresholds, golden outputs and exemplars come from noise images."""
    from io import BytesIO

    from PIL import Image

    from leakrt.core.outputs import LeakOutputs
    from leakrt.runtime.backends.base import Variant
    from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
    from leakrt.runtime.pipeline import Pipeline

    identity = np.eye(spec.embedding_dim, dtype=np.float32)
    blank = Support(
        mean=np.zeros(spec.embedding_dim, np.float32),
        projection=identity,
        points=identity[:1],
        bandwidth=1.0,
        prototypes=prototypes,
    )
    pipeline = Pipeline(spec, blank, OnnxRuntimeBackend(Variant(spec, "fp32", vae, leak), 1), threads=1)
    frames = [noise_image(i) for i in range(24)]
    images = [pipeline.image_buffer() for _ in frames]
    for frame, image in zip(frames, images, strict=True):
        pipeline.preprocess(frame, image)
    outputs: LeakOutputs = pipeline.run(images).outputs
    points = outputs.embedding - outputs.embedding.mean(0)
    support = Support(
        mean=outputs.embedding.mean(0),
        projection=identity,
        points=points,
        bandwidth=float(points.std()),
        prototypes=prototypes,
    )
    golden = Golden(frames[0], {"fp32": outputs.scores[0]}, {"fp32": outputs.embedding[0]})
    thumbnails = {}
    for k in range(len(spec.class_names)):
        buffer = BytesIO()
        Image.fromarray(frames[k]).resize((32, 32)).save(buffer, "JPEG", quality=70)
        thumbnails[k, 0] = (buffer.getvalue(),)
    return {
        graph_name("vae_encoder", "fp32"): vae,
        graph_name("leak_encoder", "fp32"): leak,
        density_name("fp32"): support.to_bytes(),
        "decision.json": decision_json(),
        "golden.npz": golden.to_bytes(),
        "exemplars.npz": Exemplars(thumbnails).to_bytes(),
    }


def decision_json(**changes: object) -> bytes:
    """A decision.json whose fp32 block never finds a noise image unknown."""
    import json

    block = (
        Decision(
            temperature=1.0,
            alarm_threshold=0.7,
            real_threshold=0.6,
            density_threshold=-100.0,
            false_alarm_rate=0.05,
            validation_real=40,
            validation_alarms=2,
            tolerance={"onnxruntime": 1e-4},
        ).to_json()
        | changes
    )
    return json.dumps({"fp32": block}).encode()


def random_bundle(path: Path, *, spec: ModelSpec = TINY_SPEC, seed: int = 0, **leak_widths: tuple[int, int]) -> Path:
    """Write a bundle of random weights that holds to the whole format; its verdicts mean nothing."""
    shape = (len(spec.class_names), spec.prototypes_per_class, spec.embedding_dim)
    prototypes = np.random.default_rng(seed + 2).standard_normal(shape).astype(np.float32)
    files = bundle_files(
        spec,
        vae_encoder(spec, seed=seed),
        leak_encoder(spec, prototypes, seed=seed + 1, **leak_widths),
        prototypes=prototypes,
    )
    write_bundle(path, spec, files, provenance={"trained_on": "nothing: random weights", "metrics": {}})
    return path


if __name__ == "__main__":
    shutil.rmtree(TINY_PATH, ignore_errors=True)
    TINY_PATH.parent.mkdir(exist_ok=True)
    print(random_bundle(TINY_PATH))


def labelled_noise(root: Path, class_names: Sequence[str], counts: Mapping[str, int]) -> Path:
    """A folder `root/SPLIT/CLASS` with as many images of noise as `counts` gives a split, all of them different."""
    from PIL import Image

    for split, count in counts.items():
        for k, name in enumerate(class_names):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(noise_image(1000 * k + i + 100 * (split == "val"))).save(folder / f"{split}{i}.png")
    return root
