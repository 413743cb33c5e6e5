"""What FP16 does to a graph's outputs, measured: every value that would be float16 is rounded to it.

ONNX Runtime runs FP16 graphs on a CPU in float32 and drops the casts between neighbours, so that what it computes is
better than what a GPU will. Here each value is cast to float16 and back by nodes of its own, which nobody drops;
sums inside an operator stay float32, as in tensor cores.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...core.errors import require
from ...core.graphs import GraphSpec
from ...export.graph_io import float_tensors
from ...export.sessions import open_session, run_session

if TYPE_CHECKING:
    import onnx

_FLOAT, _FLOAT16 = 1, 10  # onnx.TensorProto
_LARGEST = "largest_of_"

Array = npt.NDArray[np.float32]


def largest_values(
    model: onnx.ModelProto, graph: GraphSpec, inputs: Iterable[Array], *, threads: int
) -> dict[str, float]:
    """The largest magnitude of each float32 tensor inside, in float32, over inputs float32 [1, ...] each.

    inf where something is not finite. Raises ModelError.
    """
    onnx = require("onnx", "train")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    watched = sorted({o for n in model.graph.node for o in n.output} & float_tensors(model))
    _watch(copy, watched)
    session = open_session(graph.stem, copy.SerializeToString(), threads)
    largest = dict.fromkeys(watched, 0.0)
    for value in inputs:
        found = run_session(graph.stem, session, [_LARGEST + name for name in watched], feed={graph.input.name: value})
        for name, reached in zip(watched, found, strict=True):
            largest[name] = max(largest[name], float(reached) if np.isfinite(reached) else float("inf"))
    return largest


def rounded(model: onnx.ModelProto, islands: Collection[str]) -> bytes:
    """A float32 graph that rounds to float16 whatever a graph with these islands would hold in float16."""
    return bytes(_rounded(model, set(islands)).SerializeToString())


def _rounded(model: onnx.ModelProto, islands: set[str]) -> onnx.ModelProto:
    onnx = require("onnx", "train")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    floats = float_tensors(model)
    weights = {t.name for t in copy.graph.initializer if t.data_type == _FLOAT}
    nodes = list(copy.graph.node)
    del copy.graph.node[:]
    halved: set[str] = set()
    for node in nodes:
        if node.name in islands:
            copy.graph.node.append(node)
        else:
            copy.graph.node.extend(_half_node(onnx, node, floats | weights, halved=halved))
    return copy


def _half_node(onnx: Any, node: Any, floats: set[str], *, halved: set[str]) -> list[Any]:
    """A node that reads float16 values and gives them: its inputs are rounded before it, its outputs behind it."""
    before, after = [], []
    for position, name in enumerate(node.input):
        if name in floats:
            rounded = f"{name}_rounded"
            if rounded not in halved:
                halved.add(rounded)
                before += _round_trip(onnx, name, rounded)
            node.input[position] = rounded
    for position, name in enumerate(node.output):
        if name in floats:
            node.output[position] = f"{name}_exact"
            after += _round_trip(onnx, f"{name}_exact", name)
    return [*before, node, *after]


def _round_trip(onnx: Any, source: str, target: str) -> list[Any]:
    half = f"{target}_half"
    return [
        onnx.helper.make_node("Cast", [source], [half], to=_FLOAT16),
        onnx.helper.make_node("Cast", [half], [target], to=_FLOAT),
    ]


def _watch(model: onnx.ModelProto, tensors: Sequence[str]) -> None:
    """Give the largest magnitude of each tensor as an output: [1] each, so that nothing large is handed out."""
    onnx = require("onnx", "train")
    for name in tensors:
        out = _LARGEST + name
        model.graph.node.append(onnx.helper.make_node("Abs", [name], [f"{out}_abs"]))
        model.graph.node.append(onnx.helper.make_node("ReduceMax", [f"{out}_abs"], [out], keepdims=0))
        model.graph.output.append(onnx.helper.make_tensor_value_info(out, _FLOAT, []))
