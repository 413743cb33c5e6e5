"""What every exported graph must be: opset 17, checked, clean, dynamic in its batch alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.errors import ModelError, one_line, require
from ..core.graphs import GraphSpec
from ..train.onnx_nodes import every_graph, opset_of

if TYPE_CHECKING:
    import onnx

OPSET = 17  # the newest that TensorRT 8.5's parser is written for
IR_VERSION = 8  # of ONNX 1.12, which brought opset 17
BATCH = "batch"
_HIDDEN = "leakrt.hidden"
_NO_ADAPTER = re.compile(r"No Adapter .*for (\w+)")  # of the converter, which knows no way between two versions
_AXES_INPUT = 1  # position of a Reduce's axes where they are an input


def convert_opset(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model at opset 17. Raises ModelError when its operators can't be taken there."""
    onnx = require("onnx", "train")
    used = {node.domain for graph in every_graph(model) for node in graph.node}
    if used - {"", "ai.onnx"}:
        raise ModelError(f"{name} uses operators of {', '.join(sorted(filter(None, used)))}; only ONNX's own run")
    current = opset_of(model)
    del model.opset_import[:]  # of other domains, which no node uses
    model.opset_import.append(onnx.helper.make_opsetid("", current))
    if current == OPSET:
        return model
    while True:
        try:
            return _unhidden(onnx.version_converter.convert_version(model, OPSET))
        except Exception as error:  # the converter raises RuntimeError and bare C++ exceptions
            lacking = _NO_ADAPTER.search(str(error))
            if lacking is None or not _hide(model, lacking[1]):
                why = f"has opset {current} and can't be converted to {OPSET} ({one_line(error)})"
                raise ModelError(f"{name} {why}; export it at {OPSET}") from error


def _hide(model: onnx.ModelProto, kind: str) -> bool:
    """Hide nodes of an operator from the converter, which has no way for it, if opset 17 has them as they are.

    The converter leaves nodes of other domains alone. Returns False if there is no such node, or one has an input or an
    attribute that opset 17 does not know.
    """
    onnx = require("onnx", "train")
    nodes = [n for graph in every_graph(model) for n in graph.node if n.op_type == kind and not n.domain]
    if not nodes or not onnx.defs.has(kind, OPSET):
        return False
    schema = onnx.defs.get_schema(kind, OPSET)
    for node in nodes:
        if len(node.input) > len(schema.inputs) or any(a.name not in schema.attributes for a in node.attribute):
            return False
        node.domain = _HIDDEN
    if len(model.opset_import) == 1:
        model.opset_import.append(onnx.helper.make_opsetid(_HIDDEN, 1))
    return True


def _unhidden(model: onnx.ModelProto) -> onnx.ModelProto:
    for graph in every_graph(model):
        for node in graph.node:
            node.domain = ""
    del model.opset_import[:]
    model.opset_import.append(require("onnx", "train").helper.make_opsetid("", OPSET))
    return model


def finish(model: onnx.ModelProto, graph: GraphSpec, *, name: str | None = None) -> bytes:
    """Fix the shapes that `graph` states, check everything and serialise; `name` is that of a user's file.

    Raises ModelError for a model that fails the checker, keeps other shapes or holds what older TensorRT misreads.
    """
    onnx = require("onnx", "train")
    model.ir_version = IR_VERSION
    del model.metadata_props[:]
    model.doc_string = ""
    model.producer_name, model.producer_version = "leakrt", ""
    _declare(model, graph)
    try:
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # onnx raises its own kinds, which share no base
        hint = "" if name is None else "; export it again"
        raise ModelError(f"{name or graph.stem}: the graph is not valid ONNX ({one_line(error)}){hint}") from error
    check_reduce_axes(model, name or graph.stem)
    return bytes(model.SerializeToString())


def check_reduce_axes(model: onnx.ModelProto, name: str) -> None:
    """Refuse a Reduce whose axes are an input: older TensorRT reads it as a reduction over everything.

    At opset 17 that is ReduceSum alone, which is written with Reshape and MatMul or GlobalAveragePool instead where a
    graph is ours. Raises ModelError naming the node.
    """
    for node in (node for graph in every_graph(model) for node in graph.node):
        if node.op_type.startswith("Reduce") and len(node.input) > _AXES_INPUT and node.input[_AXES_INPUT]:
            where = node.name or node.output[0]
            why = "takes its axes as an input, which older TensorRT misreads; use a ReduceMean in its place"
            raise ModelError(f"{name}: {node.op_type} {where} {why}")


def _declare(model: onnx.ModelProto, graph: GraphSpec) -> None:
    """State names and shapes of inputs and outputs; inferred shapes inside are made anew."""
    onnx = require("onnx", "train")
    del model.graph.value_info[:]
    for values, tensors in ((model.graph.input, (graph.input,)), (model.graph.output, graph.outputs)):
        names = [value.name for value in values]
        if names != [tensor.name for tensor in tensors]:
            raise ModelError(f"{graph.stem}: the graph has {names}, where {', '.join(map(str, tensors))} is needed")
        del values[:]
        for tensor in tensors:
            shape = [BATCH, *tensor.shape]
            values.append(onnx.helper.make_tensor_value_info(tensor.name, onnx.TensorProto.FLOAT, shape))
