"""Conversion of the two fp32 graphs to `weights.safetensors`, which torch runs without an ONNX library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.bundle import graph_name
from ..core.errors import ModelError, require
from ..core.weights import DTYPES, STEMS, WEIGHTS_NAME, Attribute, Network, Node, to_bytes
from .graph_io import parse_graph

if TYPE_CHECKING:
    import onnx

_PRECISION = "fp32"


def weights_file(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return the weights file by its name in the bundle, made from the fp32 graphs in `files`. Raises ModelError."""
    networks = {stem: network_of(files[graph_name(stem, _PRECISION)], stem) for stem in STEMS}
    return {WEIGHTS_NAME: to_bytes(networks)}


def network_of(model: bytes, stem: str) -> Network:
    """Convert one graph. Integers become int64, floats float32; operators are not checked, the torch backend does that.

    Raises ModelError if the graph does not have exactly one input, or for a constant that is not numeric.
    """
    graph = parse_graph(model, stem).graph
    tensors = {tensor.name: _array(tensor, stem) for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "Constant":
            tensors[node.output[0]] = _constant(node, stem)
        else:
            nodes.append(
                Node(
                    operator=node.op_type,
                    inputs=tuple(node.input),
                    outputs=_outputs(node),
                    attributes=_attributes(node, stem),
                )
            )
    inputs = [value.name for value in graph.input if value.name not in tensors]
    if len(inputs) != 1:
        raise ModelError(f"{stem}: the graph has the inputs {inputs}; exactly one is needed")
    return Network(
        input=inputs[0], outputs=tuple(value.name for value in graph.output), nodes=tuple(nodes), tensors=tensors
    )


def _outputs(node: onnx.NodeProto) -> tuple[str, ...]:
    """Return the outputs without omitted ones at the end, such as a Dropout's mask."""
    names = list(node.output)
    while names and not names[-1]:
        names.pop()
    return tuple(names)


def _attributes(node: onnx.NodeProto, stem: str) -> dict[str, Attribute]:
    onnx = require("onnx", "train")
    plain = {onnx.AttributeProto.INT, onnx.AttributeProto.FLOAT, onnx.AttributeProto.STRING}
    several = {onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS, onnx.AttributeProto.STRINGS}
    found: dict[str, Attribute] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.type in plain:
            found[attribute.name] = _text(value)
        elif attribute.type in several:
            found[attribute.name] = tuple(_text(v) for v in value)
        elif attribute.type == onnx.AttributeProto.TENSOR and node.op_type == "ConstantOfShape":
            found[attribute.name] = _array(attribute.t, stem).ravel()[0].item()
        # the rest are subgraphs of If, Loop and Scan, which the torch backend rejects
    return found


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _constant(node: onnx.NodeProto, stem: str) -> npt.NDArray[Any]:
    onnx = require("onnx", "train")
    (attribute,) = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        return _array(value, stem)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    raise ModelError(f"{stem}: constant {node.output[0]} is neither a number nor a tensor")


def _array(tensor: onnx.TensorProto, stem: str) -> npt.NDArray[Any]:
    onnx = require("onnx", "train")
    array = np.asarray(onnx.numpy_helper.to_array(tensor))
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    if np.issubdtype(array.dtype, np.integer):
        return array.astype(np.int64)
    if array.dtype.name not in DTYPES:
        raise ModelError(f"{stem}: {tensor.name} has type {array.dtype}; weights are kept as {', '.join(DTYPES)}")
    return array
