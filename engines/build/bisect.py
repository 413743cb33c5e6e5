"""Find the first layer at which an engine disagrees with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import ModelError, require
from ...core.progress import Progress

if TYPE_CHECKING:
    from onnx import ModelProto

_FLOATS = (1, 10)  # onnx.TensorProto FLOAT, FLOAT16
Compare = Callable[[bytes, str], float]  # (graph with one output, name of that output) -> its error


@dataclass(frozen=True, kw_only=True)
class BadLayer:
    """The first node whose output error exceeds the limit."""

    node: str
    operator: str
    output: str
    error: float
    before: float  # error of the preceding tensor in graph order; 0 for the first node
    builds: int  # number of graphs compared


def first_bad_layer(model: bytes, compare: Compare, limit: float, *, progress: Progress) -> BadLayer | None:
    """Return the first node whose output error exceeds `limit`, or None if the error of the last one doesn't.

    This is a binary search. Each step cuts the graph at a node and passes the part up to that node to `compare`, so it
    takes about log2(nodes) builds. NaN exceeds every limit. An error that disappears again in later layers may be
    missed. Raises ModelError.
    """
    onnx = require("onnx", "tensorrt")
    graph = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model))
    cuts = _cuts(graph)
    if not cuts:
        raise ModelError(
            "can't search for the first bad layer: the graph has no floating-point tensors with a batch dimension"
        )
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
    return BadLayer(
        node=node.name or output,
        operator=node.op_type,
        output=output,
        error=errors[bad],
        before=before,
        builds=len(errors),
    )


def cut_graph(model: ModelProto, output: str) -> bytes:
    """Return the serialized subgraph that computes `output` from the unchanged inputs. Raises ModelError."""
    onnx = require("onnx", "tensorrt")
    inputs = [value.name for value in model.graph.input]
    try:
        part = onnx.utils.Extractor(model).extract_model(inputs, [output])
    except Exception as error:  # onnx's exceptions have no common base class
        raise ModelError(f"can't extract the subgraph of {output}: {' '.join(str(error).split())[:200]}") from error
    return bytes(part.SerializeToString())


def _cuts(model: ModelProto) -> list[tuple[int, str]]:
    """Return (node position, float output) pairs in graph order, without tensors that have no batch dimension."""
    known = {v.name: v.type.tensor_type for v in [*model.graph.value_info, *model.graph.output]}
    cuts = []
    for position, node in enumerate(model.graph.node):
        kind = known.get(node.output[0])
        if kind is not None and kind.elem_type in _FLOATS and _has_batch(kind):
            cuts.append((position, node.output[0]))
    return cuts


def _has_batch(kind: object) -> bool:
    """Return whether the first dimension is dynamic. A tensor with a fixed one doesn't depend on the input."""
    dimensions = kind.shape.dim  # type: ignore[attr-defined]
    return len(dimensions) > 0 and not dimensions[0].dim_value
