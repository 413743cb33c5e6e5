"""Finds the first layer from which on an engine disagrees with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import ModelError, require
from ...core.progress import Progress

if TYPE_CHECKING:
    from onnx import ModelProto

_FLOATS = (1, 10)  # onnx.TensorProto FLOAT, FLOAT16
Compare = Callable[[bytes, str], float]  # a graph with one output, and that output's name, to the error there


@dataclass(frozen=True, kw_only=True)
class BadLayer:
    """The first node whose output is off."""

    node: str
    operator: str
    output: str
    error: float
    before: float  # error of the tensor just before it in the graph
    builds: int  # graphs compared to find it


def first_bad_layer(model: bytes, compare: Compare, limit: float, *, progress: Progress) -> BadLayer | None:
    """Search the nodes by halves for the first whose output has an error over `limit`; None when the last has not.

    Each step cuts the graph at a node and gives `compare` what comes before, so the builder sees a graph with that
    output: about log2(nodes) builds. An error that heals again further on may be missed. Raises ModelError.
    """
    onnx = require("onnx", "tensorrt")
    graph = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
    cuts = _cuts(graph)
    if not cuts:
        raise ModelError("the graph has no float outputs to compare")
    errors: dict[int, float] = {}

    def error_at(index: int) -> float:
        if index not in errors:
            errors[index] = compare(cut_graph(graph, cuts[index][1]), cuts[index][1])
            progress("bisect", len(errors), len(cuts).bit_length() + 1)
        return errors[index]

    good, bad = -1, len(cuts) - 1
    if error_at(bad) <= limit:
        return None
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if not error_at(middle) <= limit else (middle, bad)
    position, output = cuts[bad]
    node = graph.graph.node[position]
    before = error_at(good) if good >= 0 else 0.0
    return BadLayer(node=node.name or output, operator=node.op_type, output=output, error=errors[bad], before=before, builds=len(errors))


def cut_graph(model: ModelProto, output: str) -> bytes:
    """The part of a graph that gives one inner tensor, with its inputs as they are. Raises ModelError."""
    onnx = require("onnx", "tensorrt")
    inputs = [value.name for value in model.graph.input]
    try:
        part = onnx.utils.Extractor(model).extract_model(inputs, [output])
    except Exception as error:  # onnx raises its own kinds
        raise ModelError(f"the graph can't be cut at {output} ({' '.join(str(error).split())[:200]})") from error
    return bytes(part.SerializeToString())


def _cuts(model: ModelProto) -> list[tuple[int, str]]:
    """Position of a node and the float tensor it gives, in the order of the graph; those with no batch are left out."""
    known = {v.name: v.type.tensor_type for v in [*model.graph.value_info, *model.graph.output]}
    cuts = []
    for position, node in enumerate(model.graph.node):
        kind = known.get(node.output[0])
        if kind is not None and kind.elem_type in _FLOATS and _has_batch(kind):
            cuts.append((position, node.output[0]))
    return cuts


def _has_batch(kind: object) -> bool:
    """Whether the first dimension is not fixed: what does not depend on the input is a constant."""
    dimensions = kind.shape.dim  # type: ignore[attr-defined]
    return len(dimensions) > 0 and not dimensions[0].dim_value
