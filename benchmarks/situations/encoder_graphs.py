"""Builders of small ONNX encoders of every kind that users bring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 48  # latents of 6 x 6: no side is the number of channels
FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_SHAPE = ("b", 3, SIZE, SIZE)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One file: `write` puts it into a folder and returns its path."""

    name: str
    write: Callable[[Path], Path]
    refused: str = ""  # a part of the message; empty: the file is accepted
    output: str | None = None  # --vae-output


def encoder(
    nodes: Sequence[Any] = (),
    *,
    weights: Sequence[Any] = (),
    opset: int = 17,
    shape: Sequence[object] = _SHAPE,
    channels: int = 4,
    stride: int = 8,
    given: str = "x",
    inner: str = "c",
    kernel: str = "w",
    outputs: Sequence[str] = ("y",),
    last: Sequence[Any] | None = None,
) -> onnx.ModelProto:
    """A strided convolution from `given` to `inner`, then `nodes`; a node list of `last` replaces all."""
    rng = np.random.default_rng(1)
    w = rng.normal(0, 0.1, (channels, 3, stride, stride)).astype(np.float32)
    conv = helper.make_node("Conv", [given, kernel], [inner], name="conv", strides=[stride, stride])
    graph = helper.make_graph(
        list(last) if last is not None else [conv, *nodes],
        "g",
        [helper.make_tensor_value_info(given, FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [numpy_helper.from_array(w, kernel), *weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> Any:
    """A node; names are separated by commas."""
    return helper.make_node(kind, inputs.split(","), outputs.split(","), **attributes)


def constant(value: Any, name: str) -> Any:
    """An initializer."""
    return numpy_helper.from_array(np.asarray(value), name)


def body(nodes: Sequence[Any], outputs: str, *, inputs: Sequence[Any] = (), weights: Sequence[Any] = ()) -> Any:
    """A subgraph with float outputs of unknown shape."""
    made = [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs.split(",")]
    return helper.make_graph(list(nodes), "body", list(inputs), made, list(weights))


def saved(build: Callable[[], onnx.ModelProto]) -> Callable[[Path], Path]:
    """`build` as what a Case writes."""

    def write(folder: Path) -> Path:
        path = folder / "encoder.onnx"
        path.write_bytes(build().SerializeToString())
        return path

    return write


def branches(then: Sequence[Any], other: Sequence[Any], *, weights: Sequence[Any] = ()) -> onnx.ModelProto:
    """An If on whether the image is larger than 40 pixels; both branches give `z`."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape,last", "side"),
        node("Greater", "side,limit", "k"),
        node("If", "k", "y", then_branch=body(then, "z", weights=weights), else_branch=body(other, "z")),
    ]
    return encoder(nodes, weights=[constant(np.int64(3), "last"), constant(np.int64(40), "limit")])


def recurrent() -> onnx.ModelProto:
    """An LSTM whose first output is left out: its last state is the latent."""
    rng, hidden = np.random.default_rng(2), 4 * 6 * 6
    weights = [
        constant(rng.normal(0, 0.1, (1, 4 * hidden, n)).astype(np.float32), name)
        for n, name in ((36, "wx"), (hidden, "wh"))
    ]
    nodes = [
        node("Reshape", "c,rows", "r"),
        node("Transpose", "r", "sequence", perm=[1, 0, 2]),
        helper.make_node("LSTM", ["sequence", "wx", "wh"], ["", "state"], hidden_size=hidden),
        node("Reshape", "state,square", "y"),
    ]
    shapes = [constant(np.int64(v), n) for v, n in (([-1, 4, 36], "rows"), ([-1, 4, 6, 6], "square"))]
    return encoder(nodes, weights=[*weights, *shapes])


def custom() -> onnx.ModelProto:
    """An operator of a domain that nobody registers."""
    model = encoder([helper.make_node("Mine", ["c"], ["y"], domain="own")])
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def loop(inside: Sequence[Any], *, limit: float | None = None) -> onnx.ModelProto:
    """Three rounds from `state` to `next`; the body may read x and c, and with a `limit` gives `again` itself."""
    inputs = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", FLOAT, None),
    ]
    made = [
        helper.make_tensor_value_info("again", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", FLOAT, None),
    ]
    condition = [node("Identity", "go", "again")] if limit is None else []
    graph = helper.make_graph([*condition, *inside], "body", inputs, made)
    weights = [constant(np.int64(3), "rounds"), constant(np.array(True), "true")]
    weights += [constant(np.float32(limit), "limit")] if limit is not None else []
    return encoder([node("Loop", "rounds,true,c", "y", body=graph)], weights=weights)


def scan() -> onnx.ModelProto:
    """A Scan over the batch, whose body reads an outer weight."""
    inputs = [helper.make_tensor_value_info("row", FLOAT, None)]
    graph = body([node("Mul", "row,half", "made")], "made", inputs=inputs)
    return encoder([node("Scan", "c", "y", body=graph, num_scan_inputs=1)], weights=[constant(np.float32(0.5), "half")])


def function(inside: Sequence[Any]) -> onnx.ModelProto:
    """A model-local function from `a` to `r`."""
    model = encoder([helper.make_node("Mine", ["c"], ["y"], domain="own")])
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Mine", ["a"], ["r"], list(inside), opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def half() -> onnx.ModelProto:
    """Float16 inside, its casts at the end, as converters write them."""
    model = encoder([node("Relu", "ch", "rh")])
    graph = model.graph
    weight = numpy_helper.to_array(graph.initializer[0]).astype(np.float16)
    graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    graph.node[0].input[0], graph.node[0].output[0] = "xh", "ch"
    graph.node.append(node("Cast", "ch", "y", to=FLOAT))
    graph.node.append(node("Cast", "x", "xh", to=HALF))
    del graph.node[1]
    return model


def weights_beside(folder: Path, *, below: bool = False) -> Path:
    """Weights in another file, beside the encoder or in a folder below."""
    model, path = encoder([node("Relu", "c", "y")]), folder / "encoder.onnx"
    if below:
        (folder / "data").mkdir()
    moved = "data/weights.bin" if below else "weights.bin"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if below:
        (folder / "weights.bin").rename(folder / moved)
        place(path, location=moved)
    return path


def place(path: Path, **entries: str) -> Path:
    """Change where the first weight is said to lie."""
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = entries.pop(entry.key, entry.value)
    for key, value in entries.items():
        model.graph.initializer[0].external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def misplaced(**entries: str) -> Callable[[Path], Path]:
    """Weights beside the file, with a place that is changed."""
    return lambda folder: place(weights_beside(folder), **entries)


def linked_out(folder: Path) -> Path:
    """Weights behind a link that leaves the folder."""
    inside = folder / "inside"
    inside.mkdir()
    path = weights_beside(inside)
    (inside / "weights.bin").rename(folder / "weights.bin")
    (inside / "weights.bin").symlink_to(folder / "weights.bin")
    return path


def linked_model(folder: Path) -> Path:
    """Links to a file and its weights in one other folder, as download caches have them."""
    for name in ("blobs", "snapshot"):
        (folder / name).mkdir()
    path = weights_beside(folder / "blobs")
    for name in ("encoder.onnx", "weights.bin"):
        (folder / "snapshot" / name).symlink_to(folder / "blobs" / name)
    return folder / "snapshot" / path.name


def listed() -> onnx.ModelProto:
    """A weight among the inputs."""
    model = encoder([node("Relu", "c", "y")])
    model.graph.input.append(helper.make_tensor_value_info("w", FLOAT, [4, 3, 8, 8]))
    return model


def unsorted() -> onnx.ModelProto:
    """Nodes in reverse order."""
    model = encoder([node("Relu", "c", "r"), node("Neg", "r", "y")])
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def unused_domain() -> onnx.ModelProto:
    """A domain among the opsets that no node uses."""
    model = encoder([node("Relu", "c", "y")])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def typed(kind: int) -> onnx.ModelProto:
    """An output of another element type."""
    model = encoder([node("Cast", "c", "y", to=kind)])
    model.graph.output[0].type.tensor_type.elem_type = kind
    return model


def same_names() -> onnx.ModelProto:
    """Every name that LeakRT uses is one of the file's own."""
    nodes = [
        node("Mul", "image,scale", "unscaled_latent"),
        node("Add", "unscaled_latent,latent_scale", "latent"),
        node("Relu", "latent", "noised"),
        node("Sub", "latent,noised", "image_inner"),
        node("Neg", "image_inner", "y"),
    ]
    weights = [constant(np.float32(2), "scale"), constant(np.float32(0.1), "latent_scale")]
    return encoder(nodes, weights=weights, inner="image")


def names_within() -> onnx.ModelProto:
    """Names that LeakRT uses, within a branch."""
    inside = [node("Add", "c,latent_scale", "image"), node("Relu", "image", "latent"), node("Neg", "latent", "z")]
    return branches(inside, [node("Neg", "c", "z")], weights=[constant(np.float32(0.3), "latent_scale")])


def two_outputs(first: str, second: str) -> onnx.ModelProto:
    """Two outputs of the latent's shape."""
    return encoder([node("Relu", "c", first), node("Exp", "c", second)], outputs=(first, second))
