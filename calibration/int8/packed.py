"""Packing: store the weights of a quantised graph as int8, a quarter of their float32 size.

The quantiser writes a weight in float32 before a Q/DQ pair, and the correction needs that form. Each runtime then
rounds the weight itself, with slightly different results. Packing rounds once: it removes QuantizeLinear and stores
its int8 result as the initialiser that DequantizeLinear reads. ONNX Runtime returns the same bits as without packing,
and OpenVINO is closer to ONNX Runtime. TensorRT 10 and newer accept packed weights; for older versions
`engines.surgery.unpack_weights` restores the pair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...core.errors import ModelError, require
from ...export.graph_io import parse_graph

if TYPE_CHECKING:
    import onnx

_LARGEST = 127


def pack_weights(model: bytes, name: str) -> bytes:
    """Return the graph with the constant inputs of QuantizeLinear nodes stored in int8. Idempotent.

    Raises ModelError for a zero point that is not 0.
    """
    graph = parse_graph(model, name)
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    pairs = [n for n in graph.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in constants]
    if not pairs:
        return model
    for node in pairs:
        _pack(graph, name, node, constants=constants)
    return bytes(graph.SerializeToString(deterministic=True))


def _pack(model: onnx.ModelProto, name: str, node: onnx.NodeProto, *, constants: dict[str, onnx.TensorProto]) -> None:
    numpy_helper = require("onnx", "train").numpy_helper
    weight, scale, *zeros = (numpy_helper.to_array(constants[given]) for given in node.input)
    if not zeros or zeros[0].dtype != np.int8 or zeros[0].any():  # without a zero point the codes would be uint8
        raise ModelError(f"{name}: weight {node.input[0]} is not symmetric int8; calibrate the fp32 graph again")
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    codes = _codes(weight, scale, axis)
    model.graph.node.remove(node)
    model.graph.initializer.append(numpy_helper.from_array(codes, node.output[0]))
    if not any(node.input[0] in other.input for other in model.graph.node):
        model.graph.initializer.remove(constants[node.input[0]])


def _codes(weight: npt.NDArray[np.float32], scale: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.int8]:
    """Round half to even, as QuantizeLinear does; `scale` has one element, or one per index along `axis`."""
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)] if scale.size > 1 else [1] * weight.ndim
    return np.asarray(np.clip(np.rint(weight / scale.reshape(shape)), -_LARGEST - 1, _LARGEST), np.int8)
