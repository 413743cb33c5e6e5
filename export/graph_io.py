"""Reading a bundle's graph: parsed, every node named, shapes inferred."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import ModelError, one_line, require

if TYPE_CHECKING:
    import onnx


def parse_graph(model: bytes, name: str) -> onnx.ModelProto:
    """Parse, name every node, infer shapes. Raises ModelError naming `name`, MissingExtraError without onnx."""
    onnx = require("onnx", "train")
    try:
        parsed = onnx.load_model_from_string(model)
        if not parsed.graph.output:
            raise ValueError("it gives nothing")  # as no bytes at all do, which parse
        name_nodes(parsed)
        return onnx.shape_inference.infer_shapes(parsed, data_prop=True)
    except Exception as error:  # protobuf's errors share no base with onnx's
        raise ModelError(f"{name}: not an ONNX graph ({one_line(error)}); export the bundle again") from error


def name_nodes(model: onnx.ModelProto) -> None:
    """Give every node a name of its own: quantiser and converters address nodes by name."""
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
        seen.add(node.name)


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of the inner tensors that are float32, by shape inference."""
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {v.name for v in values if v.type.tensor_type.elem_type == 1}  # onnx.TensorProto.FLOAT
