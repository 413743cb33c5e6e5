"""Weights of a quantised graph stored as the int8 codes that run, a quarter of their float32 size.

The quantiser writes a weight as float32 behind a Q/DQ pair, and correction needs it so; every reader then rounds it
anew, by arithmetic of its own. Packing rounds once: QuantizeLinear goes, its int8 result stays as the initialiser that
DequantizeLinear reads. ONNX Runtime gives the same bits as before, and OpenVINO comes nearer to it (latents of
LeakBench faces: RMS difference 0.0008 where it was 0.0020), since it had rounded some weights the other way. TensorRT
from 10 on takes such weights; for older ones `engines.surgery.unpack_weights` writes the pair again.
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
    """The graph with every constant that a QuantizeLinear reads in int8; the same bytes where there is none.

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
    if not zeros or zeros[0].dtype != np.int8 or zeros[0].any():  # without one the codes would be uint8
        raise ModelError(f"{name}: the weight {node.input[0]} is not symmetric int8; calibrate the fp32 graph again")
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    codes = _codes(weight, scale, axis)
    model.graph.node.remove(node)
    model.graph.initializer.append(numpy_helper.from_array(codes, node.output[0]))
    if not any(node.input[0] in other.input for other in model.graph.node):
        model.graph.initializer.remove(constants[node.input[0]])


def _codes(weight: npt.NDArray[np.float32], scale: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.int8]:
    """Rounded half to even, as QuantizeLinear does; `scale` is one number, or one for each index along `axis`."""
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)] if scale.size > 1 else [1] * weight.ndim
    return np.asarray(np.clip(np.rint(weight / scale.reshape(shape)), -_LARGEST - 1, _LARGEST), np.int8)
