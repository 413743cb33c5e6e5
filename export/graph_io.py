"""Parsing of a bundle's graphs, with unique node names and inferred shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import ModelError, one_line, require

if TYPE_CHECKING:
    import onnx


def parse_graph(model: bytes, name: str) -> onnx.ModelProto:
    """Parse a graph, name its nodes and infer shapes.

    Raises ModelError naming `name`, MissingExtraError without onnx.
    """
    onnx = require("onnx", "train")
    try:
        parsed = onnx.load_model_from_string(model)
        if not parsed.graph.output:
            raise ValueError("it has no outputs")  # zero bytes parse as an empty model
        name_nodes(parsed)
        return onnx.shape_inference.infer_shapes(parsed, data_prop=True)
    except Exception as error:  # protobuf's errors share no base with onnx's
        raise ModelError(f"{name}: not an ONNX graph ({one_line(error)}); export the bundle again") from error


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a unique name. The quantiser and the converters address nodes by name."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the names of all tensors that shape inference finds to be float32."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {v.name for v in values if v.type.tensor_type.elem_type == 1}  # onnx.TensorProto.FLOAT
