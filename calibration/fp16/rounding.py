"""Simulation of FP16 in float32: every value that a GPU would store in float16 is rounded to it.

On a CPU, ONNX Runtime computes FP16 graphs in float32 and removes the casts between adjacent nodes, so its results are
more accurate than those of a GPU. The graphs of this module cast each value to float16 and back with explicit nodes,
which ONNX Runtime keeps. Sums inside an operator stay float32, as in tensor cores.
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
    """Return the maximum absolute value of each inner float32 tensor over all inputs, each float32 [1, ...].

    Tensors with a value that is not finite get inf. Raises ModelError.
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
    """Return a float32 graph that rounds every value outside `islands` to float16."""
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
    """Return the node with casts that round its inputs and outputs to float16."""
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
    """Add the maximum absolute value of each tensor as a scalar output, which keeps the outputs small."""
    onnx = require("onnx", "train")
    for name in tensors:
        out = _LARGEST + name
        model.graph.node.append(onnx.helper.make_node("Abs", [name], [f"{out}_abs"]))
        model.graph.node.append(onnx.helper.make_node("ReduceMax", [f"{out}_abs"], [out], keepdims=0))
        model.graph.output.append(onnx.helper.make_tensor_value_info(out, _FLOAT, []))
