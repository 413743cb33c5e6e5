"""Requirements on every exported graph: opset 17, valid, no metadata, only the batch dynamic."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..core.errors import ModelError, one_line, require
from ..core.graphs import GraphSpec
from ..train.onnx_nodes import every_graph, opset_of

if TYPE_CHECKING:
    import onnx

OPSET = 17  # the newest that TensorRT 8.5's parser supports
IR_VERSION = 8  # of ONNX 1.12, which introduced opset 17
BATCH = "batch"
_HIDDEN = "leakrt.hidden"
_NO_ADAPTER = re.compile(r"No Adapter .*for (\w+)")  # message of onnx's version converter
_AXES_INPUT = 1  # position of a Reduce's axes input


def convert_opset(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Convert the model to opset 17. Raises ModelError if an operator can't be converted."""
    onnx = require("onnx", "train")
    used = {node.domain for graph in every_graph(model) for node in graph.node}
    if used - {"", "ai.onnx"}:
        foreign = ", ".join(sorted(filter(None, used)))
        raise ModelError(f"{name} uses operators of {foreign}; only ONNX's standard operators are supported")
    current = opset_of(model)
    del model.opset_import[:]  # may list domains that no node uses
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
    """Hide nodes of an operator that the version converter has no adapter for, if they are valid at opset 17.

    The converter skips nodes of other domains. Returns False if there is no such node, or if one has an input or
    attribute that opset 17 lacks.
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
    """Set the input and output shapes of `graph`, validate the model and serialise it.

    `name` is the name of a user's file, for messages. Raises ModelError for a model that fails the checker, has other
    shapes, or contains a node that older TensorRT misreads.
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
    except Exception as error:  # onnx's exceptions share no base class
        hint = "" if name is None else "; export it again"
        raise ModelError(f"{name or graph.stem}: the graph is not valid ONNX ({one_line(error)}){hint}") from error
    check_reduce_axes(model, name or graph.stem)
    return bytes(model.SerializeToString())


def check_reduce_axes(model: onnx.ModelProto, name: str) -> None:
    """Raise ModelError for a Reduce node whose axes are an input: older TensorRT reduces over all axes instead.

    At opset 17 only ReduceSum has such an input. LeakRT's own graphs use Reshape and MatMul or GlobalAveragePool.
    """
    for node in (node for graph in every_graph(model) for node in graph.node):
        if node.op_type.startswith("Reduce") and len(node.input) > _AXES_INPUT and node.input[_AXES_INPUT]:
            where = node.name or node.output[0]
            why = "takes its axes as an input, which older TensorRT misreads; use ReduceMean instead"
            raise ModelError(f"{name}: {node.op_type} {where} {why}")


def _declare(model: onnx.ModelProto, graph: GraphSpec) -> None:
    """Set the shapes of inputs and outputs, and drop inferred inner shapes. Raises ModelError for other names."""
    onnx = require("onnx", "train")
    del model.graph.value_info[:]
    for values, tensors in ((model.graph.input, (graph.input,)), (model.graph.output, graph.outputs)):
        names = [value.name for value in values]
        if names != [tensor.name for tensor in tensors]:
            raise ModelError(f"{graph.stem}: the graph has {names}; {', '.join(map(str, tensors))} is needed")
        del values[:]
        for tensor in tensors:
            shape = [BATCH, *tensor.shape]
            values.append(onnx.helper.make_tensor_value_info(tensor.name, onnx.TensorProto.FLOAT, shape))
