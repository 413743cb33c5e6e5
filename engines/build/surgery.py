"""Edit ONNX graphs in place: input and output types, int8 weights, group norms as arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TypeProto

_FLOAT, _FLOAT16 = 1, 10  # onnx.TensorProto


def halve_input(model: ModelProto, name: str) -> None:
    """Change a float32 input to float16.

    Casts of the input to float16 are removed. Nodes that read it as float32 read the output of a new cast. A float16
    input is left unchanged.
    """
    from onnx import helper

    graph = model.graph
    value = next(v for v in graph.input if v.name == name)
    if value.type.tensor_type.elem_type == _FLOAT16:
        return
    value.type.tensor_type.elem_type = _FLOAT16
    outputs = {v.name for v in graph.output}
    casts = {n.output[0] for n in graph.node if _is_cast(n, name, _FLOAT16)} - outputs
    wide = f"{name}_float32"
    users = [n for n in graph.node if name in n.input and n.output[0] not in casts]
    for node in users:
        _replace(node.input, name, wide)
    for cast in [n for n in graph.node if n.output[0] in casts]:
        graph.node.remove(cast)
        _rename_uses(graph.node, cast.output[0], name)
    if users:
        graph.node.insert(0, helper.make_node("Cast", [name], [wide], name=f"{name}_to_float32", to=_FLOAT))


def halve_output(model: ModelProto, name: str) -> None:
    """Change a float32 output to float16.

    A cast to float32 before the output is removed if nothing else reads it; otherwise a cast to float16 is added. A
    float16 output is left unchanged.
    """
    from onnx import helper

    graph = model.graph
    value = next(v for v in graph.output if v.name == name)
    if value.type.tensor_type.elem_type == _FLOAT16:
        return
    value.type.tensor_type.elem_type = _FLOAT16
    producer = next(n for n in graph.node if name in n.output)
    used = any(name in n.input for n in graph.node)
    source = producer.input[0]
    inner = next((n for n in graph.node if source in n.output), None)
    if _is_cast(producer, source, _FLOAT) and inner is not None and not used:
        graph.node.remove(producer)
        _rename_uses(graph.node, source, name)
        _replace(inner.output, source, name)
        return
    wide = f"{name}_float32"
    _replace(producer.output, name, wide)
    _rename_uses(graph.node, name, wide)
    graph.node.append(helper.make_node("Cast", [wide], [name], name=f"{name}_to_float16", to=_FLOAT16))


def spell_out_instance_norm(model: ModelProto) -> int:
    """Replace every InstanceNormalization by float32 arithmetic, and return the number of replaced nodes.

    y = (x - mean) / sqrt(mean((x - mean)^2) + epsilon) * scale + bias, with the mean over all axes but batch and
    channel. A float16 norm is wrapped in casts, since its squares may overflow float16. A group norm exports as
    InstanceNormalization at opset 17, and TensorRT 8.5 runs that in a plugin that needs cuDNN.
    """
    graph = model.graph
    types = _types(model)
    found = [node for node in graph.node if node.op_type == "InstanceNormalization"]
    for node in found:
        position = list(graph.node).index(node)
        graph.node.remove(node)
        tensor = types[node.input[0]]
        for offset, new in enumerate(
            _between_casts(graph, node, len(tensor.shape.dim), half=tensor.elem_type == _FLOAT16)
        ):
            graph.node.insert(position + offset, new)
    return len(found)


def unpack_weights(model: ModelProto) -> int:
    """Replace weights stored as int8 by float32 weights before a Q/DQ pair, and return the number of weights.

    Quantizing code * scale returns the same code, so the result is unchanged. The parser of TensorRT 8.5 doesn't
    support int8 constants.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    found = [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants]
    for node in found:
        codes, scale = (numpy_helper.to_array(constants[name]) for name in node.input[:2])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        shape = [-1 if i == axis and scale.size > 1 else 1 for i in range(codes.ndim)]
        packed = node.input[0]
        weight = numpy_helper.from_array((codes * scale.reshape(shape)).astype(np.float32), f"{packed}_float32")
        pair = helper.make_node(
            "QuantizeLinear", [weight.name, *node.input[1:]], [packed], name=f"{packed}_q", axis=axis
        )
        graph.initializer.append(weight)
        graph.initializer.remove(constants[packed])
        graph.node.insert(list(graph.node).index(node), pair)
    return len(found)


def _between_casts(graph: GraphProto, node: NodeProto, rank: int, *, half: bool) -> list[NodeProto]:
    """Return the nodes that replace a norm; a float16 norm gets casts to float32 before and to float16 after."""
    from onnx import NodeProto, helper

    if not half:
        return _arithmetic(graph, node, rank)
    stem, wide = node.name or node.output[0], NodeProto()
    wide.CopyFrom(node)
    wide.input[:] = [f"{stem}_{part}_float32" for part in ("x", "scale", "bias")]
    wide.output[:] = [f"{stem}_float32"]
    before = [
        helper.make_node("Cast", [name], [cast], name=cast, to=_FLOAT)
        for name, cast in zip(node.input, wide.input, strict=True)
    ]
    after = helper.make_node("Cast", list(wide.output), list(node.output), name=f"{stem}_float16", to=_FLOAT16)
    return [*before, *_arithmetic(graph, wide, rank), after]


def _arithmetic(graph: GraphProto, node: NodeProto, rank: int) -> list[NodeProto]:
    from onnx import helper, numpy_helper

    x, scale, bias = node.input
    stem = node.name or node.output[0]
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    axes, shape = list(range(2, rank)), [1, -1] + [1] * (rank - 2)
    graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(epsilon, np.float32), f"{stem}_epsilon"),
            numpy_helper.from_array(np.array(shape, np.int64), f"{stem}_shape"),
        ]
    )
    steps: list[tuple[str, Sequence[str], str, dict[str, object]]] = [
        ("ReduceMean", [x], "mean", {"axes": axes, "keepdims": 1}),
        ("Sub", [x, f"{stem}_mean"], "centred", {}),
        ("Mul", [f"{stem}_centred", f"{stem}_centred"], "squared", {}),
        ("ReduceMean", [f"{stem}_squared"], "variance", {"axes": axes, "keepdims": 1}),
        ("Add", [f"{stem}_variance", f"{stem}_epsilon"], "shifted", {}),
        ("Sqrt", [f"{stem}_shifted"], "deviation", {}),
        ("Div", [f"{stem}_centred", f"{stem}_deviation"], "normal", {}),
        ("Reshape", [scale, f"{stem}_shape"], "scale", {}),
        ("Reshape", [bias, f"{stem}_shape"], "bias", {}),
        ("Mul", [f"{stem}_normal", f"{stem}_scale"], "scaled", {}),
    ]
    nodes = [
        helper.make_node(kind, list(inputs), [f"{stem}_{out}"], name=f"{stem}_{out}", **attributes)
        for kind, inputs, out, attributes in steps
    ]
    last = helper.make_node("Add", [f"{stem}_scaled", f"{stem}_bias"], [node.output[0]], name=f"{stem}_sum")
    return [*nodes, last]


def _types(model: ModelProto) -> dict[str, TypeProto.Tensor]:
    from onnx import shape_inference

    graph = shape_inference.infer_shapes(model).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    return {value.name: value.type.tensor_type for value in values}


def _is_cast(node: NodeProto, source: str, target: int) -> bool:
    """Return whether `node` casts `source` to the element type `target`."""
    if node.op_type != "Cast" or node.input[0] != source:
        return False
    return any(a.name == "to" and a.i == target for a in node.attribute)


def _rename_uses(nodes: Iterable[NodeProto], old: str, new: str) -> None:
    for node in nodes:
        _replace(node.input, old, new)


def _replace(names: list[str], old: str, new: str) -> None:
    for index, name in enumerate(names):
        if name == old:
            names[index] = new
