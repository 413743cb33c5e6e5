"""Small ONNX encoders of every kind that users bring: valid ones, and such as must be refused, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 48  # latents of 6 x 6: no side is the number of channels
_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
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
        [helper.make_tensor_value_info(given, _FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, _FLOAT, None) for name in outputs],
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
    made = [helper.make_tensor_value_info(name, _FLOAT, None) for name in outputs.split(",")]
    return helper.make_graph(list(nodes), "body", list(inputs), made, list(weights))


def saved(build: Callable[[], onnx.ModelProto]) -> Callable[[Path], Path]:
    """`build` as what a Case writes."""

    def write(folder: Path) -> Path:
        path = folder / "encoder.onnx"
        path.write_bytes(build().SerializeToString())
        return path

    return write


def _branches(then: Sequence[Any], other: Sequence[Any], *, weights: Sequence[Any] = ()) -> onnx.ModelProto:
    """An If on whether the image is larger than 40 pixels; both branches give `z`."""
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape,last", "side"),
        node("Greater", "side,limit", "k"),
        node("If", "k", "y", then_branch=body(then, "z", weights=weights), else_branch=body(other, "z")),
    ]
    return encoder(nodes, weights=[constant(np.int64(3), "last"), constant(np.int64(40), "limit")])


def _recurrent() -> onnx.ModelProto:
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


def _custom() -> onnx.ModelProto:
    model = encoder([helper.make_node("Mine", ["c"], ["y"], domain="own")])
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def _loop(inside: Sequence[Any]) -> onnx.ModelProto:
    """Three rounds from `state` to `next`; the body may read x and c."""
    inputs = [
        helper.make_tensor_value_info("i", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("state", _FLOAT, None),
    ]
    made = [
        helper.make_tensor_value_info("again", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next", _FLOAT, None),
    ]
    graph = helper.make_graph([node("Identity", "go", "again"), *inside], "body", inputs, made)
    weights = [constant(np.int64(3), "rounds"), constant(np.array(True), "true")]
    return encoder([node("Loop", "rounds,true,c", "y", body=graph)], weights=weights)


def _scan() -> onnx.ModelProto:
    """A Scan over the batch, whose body reads an outer weight."""
    inputs = [helper.make_tensor_value_info("row", _FLOAT, None)]
    graph = body([node("Mul", "row,half", "made")], "made", inputs=inputs)
    return encoder([node("Scan", "c", "y", body=graph, num_scan_inputs=1)], weights=[constant(np.float32(0.5), "half")])


def _function(inside: Sequence[Any]) -> onnx.ModelProto:
    """A model-local function from `a` to `r`."""
    model = encoder([helper.make_node("Mine", ["c"], ["y"], domain="own")])
    opsets = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Mine", ["a"], ["r"], list(inside), opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def _half() -> onnx.ModelProto:
    """Float16 inside, its casts at the end, as converters write them."""
    model = encoder([node("Relu", "ch", "rh")])
    graph = model.graph
    weight = numpy_helper.to_array(graph.initializer[0]).astype(np.float16)
    graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    graph.node[0].input[0], graph.node[0].output[0] = "xh", "ch"
    graph.node.append(node("Cast", "ch", "y", to=_FLOAT))
    graph.node.append(node("Cast", "x", "xh", to=_HALF))
    del graph.node[1]
    return model


def _weights_beside(folder: Path, *, below: bool = False) -> Path:
    model, path = encoder([node("Relu", "c", "y")]), folder / "encoder.onnx"
    if below:
        (folder / "data").mkdir()
    place = "data/weights.bin" if below else "weights.bin"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    if below:
        (folder / "weights.bin").rename(folder / place)
        _place(path, location=place)
    return path


def _place(path: Path, **entries: str) -> Path:
    """Change where the first weight is said to lie."""
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = entries.pop(entry.key, entry.value)
    for key, value in entries.items():
        model.graph.initializer[0].external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def _misplaced(**entries: str) -> Callable[[Path], Path]:
    return lambda folder: _place(_weights_beside(folder), **entries)


def _linked_out(folder: Path) -> Path:
    inside = folder / "inside"
    inside.mkdir()
    path = _weights_beside(inside)
    (inside / "weights.bin").rename(folder / "weights.bin")
    (inside / "weights.bin").symlink_to(folder / "weights.bin")
    return path


def _linked_model(folder: Path) -> Path:
    """Links to a file and its weights in one other folder, as download caches have them."""
    for name in ("blobs", "snapshot"):
        (folder / name).mkdir()
    path = _weights_beside(folder / "blobs")
    for name in ("encoder.onnx", "weights.bin"):
        (folder / "snapshot" / name).symlink_to(folder / "blobs" / name)
    return folder / "snapshot" / path.name


def _listed() -> onnx.ModelProto:
    model = encoder([node("Relu", "c", "y")])
    model.graph.input.append(helper.make_tensor_value_info("w", _FLOAT, [4, 3, 8, 8]))
    return model


def _unsorted() -> onnx.ModelProto:
    model = encoder([node("Relu", "c", "r"), node("Neg", "r", "y")])
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in reversed(model.graph.node)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _unused_domain() -> onnx.ModelProto:
    model = encoder([node("Relu", "c", "y")])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def _typed(kind: int) -> onnx.ModelProto:
    model = encoder([node("Cast", "c", "y", to=kind)])
    model.graph.output[0].type.tensor_type.elem_type = kind
    return model


def _same_names() -> onnx.ModelProto:
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


def _names_within() -> onnx.ModelProto:
    inside = [node("Add", "c,latent_scale", "image"), node("Relu", "image", "latent"), node("Neg", "latent", "z")]
    return _branches(inside, [node("Neg", "c", "z")], weights=[constant(np.float32(0.3), "latent_scale")])


def _two_outputs(first: str, second: str) -> onnx.ModelProto:
    return encoder([node("Relu", "c", first), node("Exp", "c", second)], outputs=(first, second))


VALID = (
    Case(name="plain", write=saved(lambda: encoder([node("Relu", "c", "y")]))),
    *(
        Case(
            name=f"opset {n}",
            write=saved(lambda n=n: encoder([node("Relu", "c", "r"), node("Softmax", "r", "y")], opset=n)),
        )
        for n in (7, 9, 11, 12, 13, 15, 16, 18, 19, 20, 21, 22, 23, 24)
    ),
    Case(name="nodes out of order", write=saved(_unsorted)),
    Case(name="float16 inside, casts last", write=saved(_half)),
    Case(name="our names", write=saved(_same_names)),
    Case(name="our names in a branch", write=saved(_names_within)),
    Case(name="input called latent", write=saved(lambda: encoder([node("Relu", "c", "y")], given="latent"))),
    Case(name="output called image", write=saved(lambda: encoder([node("Relu", "c", "image")], outputs=("image",)))),
    Case(
        name="If that reads the input",
        write=saved(
            lambda: _branches(
                [node("Conv", "x,w", "t", strides=[8, 8]), node("Relu", "t", "z")], [node("Neg", "c", "z")]
            )
        ),
    ),
    Case(
        name="If out of order within",
        write=saved(lambda: _branches([node("Neg", "t", "z"), node("Exp", "c", "t")], [node("Neg", "c", "z")])),
    ),
    Case(name="Loop that reads an outer tensor", write=saved(lambda: _loop([node("Add", "state,c", "next")]))),
    Case(
        name="Loop that reads the input",
        write=saved(lambda: _loop([node("Conv", "x,w", "t", strides=[8, 8]), node("Add", "state,t", "next")])),
    ),
    Case(name="Scan that reads an outer tensor", write=saved(_scan)),
    Case(name="weights beside the file", write=_weights_beside),
    Case(name="weights in a folder below", write=lambda folder: _weights_beside(folder, below=True)),
    Case(name="links to file and weights", write=_linked_model),
    Case(name="weights among the inputs", write=saved(_listed)),
    Case(
        name="optional outputs left out",
        write=saved(lambda: encoder([helper.make_node("Dropout", ["c"], ["d", ""]), node("Relu", "d", "y")])),
    ),
    Case(
        name="optional output left out in the middle",
        write=saved(_recurrent),
    ),
    Case(
        name="constants in attributes",
        write=saved(
            lambda: encoder(
                [helper.make_node("Constant", [], ["k"], value=constant(np.float32(2), "v")), node("Mul", "c,k", "y")]
            )
        ),
    ),
    Case(name="functions", write=saved(lambda: _function([node("Relu", "a", "t"), node("Neg", "t", "r")]))),
    Case(name="a domain that no node uses", write=saved(_unused_domain)),
    Case(
        name="free height and width", write=saved(lambda: encoder([node("Relu", "c", "y")], shape=("b", 3, "h", "w")))
    ),
    Case(
        name="declared for a batch of 1",
        write=saved(lambda: encoder([node("Relu", "c", "y")], shape=(1, 3, SIZE, SIZE))),
    ),
    Case(
        name="Dropout that is off",
        write=saved(
            lambda: encoder(
                [node("Dropout", "c,ratio,off", "y")],
                weights=[constant(np.float32(0.5), "ratio"), constant(np.array(False), "off")],
            )
        ),
    ),
    Case(name="mean and log-variance", write=saved(lambda: _two_outputs("mean", "logvar"))),
    Case(name="second output by its name", write=saved(lambda: _two_outputs("a", "b")), output="b"),
    Case(
        name="a random output beside the mean",
        write=saved(
            lambda: encoder(
                [node("Relu", "c", "mean"), node("RandomNormalLike", "c", "r"), node("Add", "mean,r", "sample")],
                outputs=("sample", "mean"),
            )
        ),
    ),
)

_NOISE = {
    "RandomNormal": [node("RandomNormal", "c", "n", shape=[1])],
    "RandomNormalLike": [node("RandomNormalLike", "c", "n", scale=1e-6)],
    "RandomUniform": [],
    "RandomUniformLike": [node("RandomUniformLike", "c", "n", high=1e-6)],
    "Bernoulli": [node("Sigmoid", "c", "s"), node("Bernoulli", "s", "n")],
    "Multinomial": [
        node("Flatten", "c", "f"),
        node("Multinomial", "f", "i", sample_size=1),
        node("Cast", "i", "i2", to=_FLOAT),
        node("ReduceMean", "i2", "n", keepdims=0),
    ],
}
for _kind in ("RandomNormal", "RandomUniform"):
    _NOISE[_kind] = [helper.make_node(_kind, [], ["n"], shape=[1])]
_SAMPLE = "output the posterior mean, not a sample"

RANDOM = (
    *(
        Case(name=kind, refused=_SAMPLE, write=saved(lambda n=nodes: encoder([*n, node("Add", "c,n", "y")])))
        for kind, nodes in _NOISE.items()
    ),
    *(
        Case(
            name=f"{kind} in a branch that is not taken",
            refused=_SAMPLE,
            write=saved(lambda n=nodes: _branches([*n, node("Add", "c,n", "z")], [node("Neg", "c", "z")])),
        )
        for kind, nodes in _NOISE.items()
    ),
    Case(
        name="RandomNormalLike in a Loop",
        refused=_SAMPLE,
        write=saved(lambda: _loop([node("RandomNormalLike", "state", "n"), node("Add", "n,c", "next")])),
    ),
    Case(
        name="RandomNormalLike in a function",
        refused=_SAMPLE,
        write=saved(lambda: _function([node("RandomNormalLike", "a", "t", scale=1e-6), node("Add", "a,t", "r")])),
    ),
    Case(
        name="Dropout that is on",
        refused=_SAMPLE,
        write=saved(
            lambda: encoder(
                [node("Dropout", "c,ratio,on", "y")],
                weights=[constant(np.float32(0.0), "ratio"), constant(np.array(True), "on")],
            )
        ),
    ),
    Case(
        name="Dropout whose mode is computed",
        refused=_SAMPLE,
        write=saved(
            lambda: encoder(
                [
                    node("ReduceMean", "c", "m", keepdims=0),
                    node("Greater", "m,big", "on"),
                    node("Dropout", "c,ratio,on", "y"),
                ],
                weights=[constant(np.float32(0.5), "ratio"), constant(np.float32(1e6), "big")],
            )
        ),
    ),
)

_DEAD = [constant(np.float32(0), "nought"), constant(np.float32(1), "one")]


def _blind(starts: Sequence[int], pads: Sequence[int], axis: int) -> onnx.ModelProto:
    """Replaces a slice of the image by zeros before the convolution."""
    ends = [2**31] if starts[0] >= 0 else [starts[0]]
    begin = starts if starts[0] >= 0 else [0]
    weights = [constant(np.int64(v), n) for v, n in ((begin, "from"), (ends, "to"), ([axis], "axis"), (pads, "pads"))]
    nodes = [
        node("Slice", "x,from,to,axis", "part"),
        node("Pad", "part,pads", "whole"),
        node("Conv", "whole,w", "y", strides=[8, 8]),
    ]
    return encoder(last=nodes, weights=weights)


REFUSED = (
    Case(
        name="8 channels",
        refused="export the first four, the mean",
        write=saved(lambda: encoder([node("Relu", "c", "y")], channels=8)),
    ),
    Case(
        name="16 channels", refused="SD3 and FLUX", write=saved(lambda: encoder([node("Relu", "c", "y")], channels=16))
    ),
    Case(
        name="3 channels",
        refused="3 channels instead of 4",
        write=saved(lambda: encoder([node("Relu", "c", "y")], channels=3)),
    ),
    Case(
        name="a factor of 16",
        refused="downsamples by 16",
        write=saved(lambda: encoder([node("Relu", "c", "y")], stride=16)),
    ),
    Case(
        name="a factor of 4",
        refused="downsamples by 4",
        write=saved(lambda: encoder([node("Relu", "c", "y")], stride=4)),
    ),
    Case(
        name="channels last",
        refused="its channels come last",
        write=saved(lambda: encoder([node("Transpose", "c", "y", perm=[0, 2, 3, 1])])),
    ),
    Case(
        name="NaN",
        refused="gives NaN",
        write=saved(lambda: encoder([node("Sub", "c,c", "n"), node("Div", "n,n", "y")])),
    ),
    Case(
        name="infinity",
        refused="gives infinity",
        write=saved(lambda: encoder([node("Abs", "c", "n"), node("Sub", "c,c", "o"), node("Div", "n,o", "y")])),
    ),
    Case(
        name="constant",
        refused="the same latent for every image",
        write=saved(lambda: encoder([node("Mul", "c,nought", "n"), node("Add", "n,one", "y")], weights=_DEAD)),
    ),
    Case(
        name="blind to the left",
        refused="ignores the left edge",
        write=saved(lambda: _blind([8], [0, 0, 0, 8, 0, 0, 0, 0], 3)),
    ),
    Case(
        name="blind to the bottom",
        refused="ignores the bottom",
        write=saved(lambda: _blind([-8], [0, 0, 0, 0, 0, 0, 8, 0], 2)),
    ),
    Case(
        name="blind to red",
        refused="ignores the red channel",
        write=saved(lambda: _blind([1], [0, 1, 0, 0, 0, 0, 0, 0], 1)),
    ),
    Case(
        name="latents that depend on the batch",
        refused="another latent in a batch than alone",
        write=saved(lambda: encoder([node("ReduceMean", "c", "m", axes=[0]), node("Add", "c,m", "y")])),
    ),
    Case(
        name="latents that depend on the place in the batch",
        refused="another latent in a batch than alone",
        write=saved(lambda: encoder([node("CumSum", "c,axis", "y")], weights=[constant(np.int32(0), "axis")])),
    ),
    Case(
        name="a batch of 1 inside",
        refused="batch is fixed inside",
        write=saved(lambda: encoder([node("Reshape", "c,s", "y")], weights=[constant(np.int64([1, 4, 6, 6]), "s")])),
    ),
    Case(
        name="a batch of 4",
        refused="batch is fixed at 4",
        write=saved(lambda: encoder([node("Relu", "c", "y")], shape=(4, 3, SIZE, SIZE))),
    ),
    Case(
        name="another size",
        refused="64 x 64 only, where --image-size is 48",
        write=saved(lambda: encoder([node("Relu", "c", "y")], shape=("b", 3, 64, 64))),
    ),
    Case(
        name="two outputs", refused="outputs a, b; say with --vae-output", write=saved(lambda: _two_outputs("a", "b"))
    ),
    Case(name="latent and mean", refused="say with --vae-output", write=saved(lambda: _two_outputs("latent", "mean"))),
    Case(name="a wrong --vae-output", refused="it has a, b", output="c", write=saved(lambda: _two_outputs("a", "b"))),
    Case(name="float16 output", refused="end it with a Cast", write=saved(lambda: _typed(_HALF))),
    Case(
        name="a custom domain",
        refused="own:Mine",
        write=saved(_custom),
    ),
    Case(
        name="an operator without an older version",
        refused="No Previous Version of Mish",
        write=saved(lambda: encoder([node("Mish", "c", "y")], opset=20)),
    ),
    Case(
        name="a ReduceSum with axes",
        refused="encoder.onnx: ReduceSum",
        write=saved(
            lambda: encoder(
                [node("ReduceSum", "c,a", "s"), node("Add", "c,s", "y")], weights=[constant(np.int64([1]), "a")]
            )
        ),
    ),
    Case(name="weights above", refused="no path below", write=_misplaced(location="../weights.bin")),
    Case(name="weights at an absolute path", refused="no path below", write=_misplaced(location="/etc/passwd")),
    Case(name="weights behind a link out", refused="a link out of", write=_linked_out),
    Case(name="weights that are gone", refused="not beside the file", write=_misplaced(location="gone.bin")),
    Case(name="weights past the end", refused="which has", write=_misplaced(offset="4096", length="3072")),
    Case(name="weights before the start", refused="are to be bytes", write=_misplaced(offset="-4")),
    Case(name="weights of another length", refused="take 3072 bytes", write=_misplaced(length="3068")),
)
