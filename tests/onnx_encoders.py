"""Small ONNX encoders of kinds that users bring: [B, 3, S, S] to [B, 4, S/8, S/8]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(4)
WEIGHT = RNG.standard_normal((4, 3, 8, 8)).astype(np.float32) / 14


def value(name: str, shape: Sequence[int | str] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def conv(source: str = "pixels", target: str = "z", weight: str = "w") -> onnx.NodeProto:
    return helper.make_node("Conv", [source, weight], [target], kernel_shape=[8, 8], strides=[8, 8])


def encoder(
    nodes: Sequence[onnx.NodeProto],
    *,
    outputs: Sequence[str] = ("out",),
    source: str = "pixels",
    shape: Sequence[int | str] = ("B", 3, "H", "W"),
    weights: dict[str, np.ndarray] | None = None,
    opset: int = 17,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of these nodes; `w` is the weight of `conv` unless `weights` says otherwise."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {"w": WEIGHT}).items()]
    graph = helper.make_graph(
        list(nodes), "encoder", [value(source, shape)], [value(name, None) for name in outputs], tensors
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(f.domain, 1) for f in functions)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=8)


def plain(**options: object) -> onnx.ModelProto:
    """One convolution and a tanh."""
    return encoder([conv(), helper.make_node("Tanh", ["z"], ["out"])], **options)


def noisy(operator: str, **attributes: object) -> onnx.ModelProto:
    """Adds a hundredth of what a random operator draws."""
    drawn = helper.make_node(operator, ["z"] if operator.endswith("Like") else [], ["noise"], **attributes)
    scaled = helper.make_node("Mul", ["noise", "share"], ["little"])
    total = helper.make_node("Add", ["z", "little"], ["out"])
    return encoder([conv(), drawn, scaled, total], weights={"w": WEIGHT, "share": np.array(1e-6, np.float32)})


def branching(then: Sequence[onnx.NodeProto], other: Sequence[onnx.NodeProto]) -> onnx.ModelProto:
    """An If on a constant; each branch ends in `a` or `b`."""
    branches = {
        "then_branch": helper.make_graph(list(then), "then", [], [value("a", None)]),
        "else_branch": helper.make_graph(list(other), "else", [], [value("b", None)]),
    }
    choice = helper.make_node("If", ["which"], ["out"], **branches)
    return encoder([choice], weights={"w": WEIGHT, "which": np.array(True)})


def looping() -> onnx.ModelProto:
    """A Loop of two turns that adds half of the convolution, read from outside, each time."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Mul", ["z", "half"], ["part"]),
            helper.make_node("Add", ["sum", "part"], ["next"]),
        ],
        "body",
        [value("turn", [], TensorProto.INT64), value("going", [], TensorProto.BOOL), value("sum", None)],
        [value("still", [], TensorProto.BOOL), value("next", None)],
    )
    nodes = [
        conv(),
        helper.make_node("Sub", ["z", "z"], ["zero"]),
        helper.make_node("Loop", ["turns", "", "zero"], ["out"], body=body),
    ]
    weights = {"w": WEIGHT, "half": np.array(0.5, np.float32), "turns": np.array(2, np.int64)}
    return encoder(nodes, weights=weights)
