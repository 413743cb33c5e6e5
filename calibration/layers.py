"""The quantisable convolutions of a graph, and the number of multiplications of each node."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.errors import ModelError

if TYPE_CHECKING:
    import onnx

# Operators that do nearly all of the work and gain from float16.
MULTIPLIERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_PASS_THROUGH = frozenset({"Relu", "LeakyRelu", "Pad", "Identity", "Dropout"})
_FLOAT16 = 10  # onnx.TensorProto
_TRAIN = "train with the float32 version of the encoder"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One convolution with constant weights."""

    name: str  # of its node
    input: str
    output: str
    multiplications: int  # for one row of the batch


def is_quantised(model: onnx.ModelProto) -> bool:
    """Return whether the graph contains quantised operators of any kind."""
    return any("QuantizeLinear" in n.op_type or n.op_type.startswith("QLinear") for n in model.graph.node)


def find_layers(model: onnx.ModelProto, name: str) -> tuple[Layer, ...]:
    """Return the convolutions with constant weights in topological order.

    Raises ModelError if the graph is already quantised, contains float16 weights, control flow or operators of a custom
    domain, has convolutions without a static size, or has no convolution.
    """
    _refuse(model, name)
    weights = {tensor.name for tensor in model.graph.initializer}
    shapes = {v.name: _dimensions(v) for v in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
    kernels = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    layers = []
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights:
            continue
        out = shapes.get(node.output[0], ())
        if len(out) < 3 or not all(isinstance(n, int) and n > 0 for n in out[1:]):
            raise ModelError(f"{name}: convolution {node.name} has no static size; export the bundle again")
        each = math.prod(kernels[node.input[1]][1:])
        layers.append(
            Layer(name=node.name, input=node.input[0], output=node.output[0], multiplications=math.prod(out[1:]) * each)
        )
    if not layers:
        raise ModelError(f"{name}: the graph has no convolution to quantise; use the fp32 variant")
    return tuple(layers)


def int8_share(layers: Sequence[Layer], quantised: Collection[str], total: int) -> float:
    """Return the share of a graph's `total` multiplications in `quantised` layers. Attention is never quantised."""
    return sum(layer.multiplications for layer in layers if layer.name in quantised) / total


def multiplications(model: onnx.ModelProto) -> dict[str, int]:
    """Return the multiplications of each convolution or matrix product for a batch of 1. Dynamic sizes count as 1."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    shapes = {v.name: tuple(d.dim_value or 1 for d in v.type.tensor_type.shape.dim) for v in values} | weights
    found = {}
    for node in model.graph.node:
        if node.op_type in MULTIPLIERS:
            out, left, right = (shapes.get(name, ()) for name in (node.output[0], *node.input[:2]))
            if node.op_type == "Conv":
                each = math.prod(right[1:])
            elif node.op_type == "ConvTranspose":  # each input value is multiplied by the whole kernel of its channel
                out, each = left, math.prod(right[1:])
            else:
                each = left[-1] if left else 1
            found[node.name] = math.prod(out[1:]) * each
    return found


def int8_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the convolutions of a Q/DQ graph whose weights are quantised, in topological order."""
    dequantised = {output for node in model.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    return tuple(node.name for node in model.graph.node if node.op_type == "Conv" and node.input[1] in dequantised)


def rectified(model: onnx.ModelProto) -> dict[str, str]:
    """Map the output of each convolution whose only reader is a Relu or LeakyRelu to that reader's output."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    found = {}
    for node in model.graph.node:
        users = readers.get(node.output[0], [])
        single_use = node.op_type == "Conv" and len(users) == 1 and node.output[0] not in outputs
        if single_use and users[0].op_type in ("Relu", "LeakyRelu"):
            found[node.output[0]] = users[0].output[0]
    return found


def residual_adds(model: onnx.ModelProto, quantised: Collection[str]) -> tuple[str, ...]:
    """Return the Add nodes that sum a quantised convolution and another branch and feed a quantised convolution.

    TensorRT keeps such an Add in int8 with the convolution before it only if the other branch is quantised too
    (NVIDIA/TensorRT issue 1992). An Add that feeds a normalisation is not
    returned, since it ends in floating point anyway.
    """
    producers = {output: node for node in model.graph.node for output in node.output}
    found = []
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        before = [producers.get(name) for name in node.input]
        joins = any(p is not None and p.op_type == "Conv" and p.name in quantised for p in before)
        if joins and all(p is not None for p in before) and _feeds_quantised(model, node.output[0], quantised):
            found.append(node.name)
    return tuple(found)


def _feeds_quantised(model: onnx.ModelProto, tensor: str, quantised: Collection[str]) -> bool:
    """Return whether a quantised convolution reads the tensor, directly or through pass-through operators."""
    for node in model.graph.node:
        if tensor not in node.input:
            continue
        if node.op_type == "Conv" and node.name in quantised:
            return True
        if node.op_type in _PASS_THROUGH and _feeds_quantised(model, node.output[0], quantised):
            return True
    return False


def _refuse(model: onnx.ModelProto, name: str) -> None:
    if is_quantised(model):
        raise ModelError(f"{name}: the graph is already quantised; calibrate the fp32 graph of a bundle")
    if any(tensor.data_type == _FLOAT16 for tensor in model.graph.initializer):
        raise ModelError(f"{name}: the quantiser doesn't support float16 weights; {_TRAIN}")
    foreign = sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})
    flow = sorted({n.op_type for n in model.graph.node if n.op_type in ("If", "Loop", "Scan")})
    if foreign or flow:
        kinds = ", ".join([*foreign, *flow])
        raise ModelError(f"{name}: the quantiser doesn't support the operators {kinds}; use the fp32 variant")


def _dimensions(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param for d in value.type.tensor_type.shape.dim)
