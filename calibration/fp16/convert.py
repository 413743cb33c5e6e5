"""Conversion to strongly typed FP16 graphs with FP32 islands, by ONNX Runtime's converter.

An island is a set of nodes that stay in float32; `search` selects them. Inputs and outputs also stay float32. The
converter inserts a pair of casts between adjacent float32 nodes, and rounds weights that an island shares with other
nodes. This module undoes both, so that an island computes exactly what `rounding` measures.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from ...core.errors import ModelError, one_line, require
from ...export.graph_io import float_tensors

if TYPE_CHECKING:
    import onnx

MAX_HALF = 32768.0  # half of float16's range: larger values on a few images may overflow on others
_MAX_SQUARED = MAX_HALF**0.5
# Operators that square their input internally: in strict float16 arithmetic the square must be in range too.
_SQUARING = frozenset(
    {"InstanceNormalization", "GroupNormalization", "LayerNormalization", "ReduceL2", "ReduceSumSquare"}
)
_FLOAT, _FLOAT16 = 1, 10  # onnx.TensorProto


def check_convertible(model: onnx.ModelProto, name: str) -> None:
    """Raise ModelError for a graph that is already FP16 or int8, or has no float32 tensor."""
    if any(tensor.data_type == _FLOAT16 for tensor in model.graph.initializer):
        raise ModelError(
            f"{name}: the graph already has float16 weights; train with its float32 version, or use the fp32 variant"
        )
    if any("QuantizeLinear" in node.op_type for node in model.graph.node):
        raise ModelError(f"{name}: the graph is quantised; convert the fp32 graph of a bundle")
    if not float_tensors(model):
        raise ModelError(f"{name}: the graph has no float32 tensor; export the bundle again")


def overflowing_nodes(model: onnx.ModelProto, largest: Mapping[str, float]) -> frozenset[str]:
    """Return the nodes that read, write or square values beyond half of float16's range.

    `largest`: maximum absolute value by tensor name.
    """

    def reach(names: Collection[str]) -> float:
        return max((largest.get(name, 0.0) for name in names), default=0.0)

    return frozenset(
        n.name
        for n in model.graph.node
        if not reach([*n.input, *n.output]) < MAX_HALF or (n.op_type in _SQUARING and not reach(n.input) < _MAX_SQUARED)
    )


def convert(model: onnx.ModelProto, name: str, islands: Collection[str]) -> bytes:
    """Return the graph as serialised FP16 ONNX of the same opset; `islands` (node names) stay in float32.

    `model` comes from `graph_io.parse_graph`, which gives every node a unique name. Raises ModelError.
    """
    onnx = require("onnx", "train")
    require("packaging", "train")
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _copy_shared_weights(copy, set(islands))
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    try:
        half = convert_float_to_float16(copy, keep_io_types=True, op_block_list=[], node_block_list=list(islands))
        OnnxModel.graph_topological_sort(half.graph)  # the converter appends its casts to the end of the graph
        _drop_round_trips(half.graph)
        del half.graph.value_info[:]
        half = onnx.shape_inference.infer_shapes(half, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(half, full_check=True)
    except Exception as error:  # the converter has no exception type of its own
        raise ModelError(f"{name}: the conversion to FP16 failed: {one_line(error)}; use the fp32 variant") from error
    half.producer_name, half.producer_version = "leakrt", ""
    del half.metadata_props[:]
    return bytes(half.SerializeToString(deterministic=True))


def _copy_shared_weights(model: onnx.ModelProto, islands: set[str]) -> None:
    """Give islands a copy of each weight that they share with other nodes."""
    weights = {t.name: t for t in model.graph.initializer if t.data_type == _FLOAT}
    outside = {name for n in model.graph.node if n.name not in islands for name in n.input}
    copied: set[str] = set()
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if node.name not in islands or name not in weights or name not in outside:
                continue
            private = f"{name}_island"
            if private not in copied:
                copied.add(private)
                tensor = model.graph.initializer.add()
                tensor.CopyFrom(weights[name])
                tensor.name = private
            node.input[position] = private


def _drop_round_trips(graph: onnx.GraphProto) -> None:
    """Bypass float32 -> float16 -> float32 cast pairs, and remove casts without readers."""
    produced = {output: node for node in graph.node for output in node.output}
    outputs = {value.name for value in graph.output}
    for node in list(graph.node):
        before = produced.get(node.input[0]) if _casts_to(node, _FLOAT) else None
        if before is None or not _casts_to(before, _FLOAT16):
            continue
        source, target = before.input[0], node.output[0]
        if target in outputs and source in produced and source not in outputs:
            _rename(graph, target, f"{target}_rounded")
            _rename(graph, source, target)
            produced[target] = produced[source]
        elif target not in outputs:
            for reader in graph.node:
                reader.input[:] = [source if name == target else name for name in reader.input]
    _drop_unread(graph, outputs)


def _drop_unread(graph: onnx.GraphProto, outputs: set[str]) -> None:
    while True:
        read = outputs | {name for node in graph.node for name in node.input}
        kept = [n for n in graph.node if n.op_type != "Cast" or n.output[0] in read]
        if len(kept) == len(graph.node):
            return
        del graph.node[:]
        graph.node.extend(kept)


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def _casts_to(node: Any, kind: int) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == kind for a in node.attribute)
