"""What FP16 does to a graph's outputs, measured: every value that would be float16 is rounded to it.

ONNX Runtime runs FP16 graphs on a CPU in float32 and drops the casts between neighbours, so that what it computes is
better than what a GPU will. Here each value is cast to float16 and back by nodes of its own, which nobody drops;
sums inside an operator stay float32, as in tensor cores.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.errors import require
from ..core.graphs import GraphSpec
from .graph_io import float_tensors
from .sessions import open_session, run_session

if TYPE_CHECKING:
    import onnx

_FLOAT, _FLOAT16 = 1, 10  # onnx.TensorProto
_LARGEST = "largest_of_"

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Measured:
    """What a rounded graph gave on a few inputs."""

    outputs: tuple[Array, ...]  # one for each output of the graph, inputs concatenated
    largest: dict[str, float]  # float32 tensor to its largest magnitude; empty when something is rounded


def measure(
    model: onnx.ModelProto, graph: GraphSpec, islands: Collection[str], inputs: Sequence[Array], threads: int
) -> Measured:
    """Run the graph with every node but the islands rounded to float16. With all of them islands it is exact."""
    exact = all(node.name in islands for node in model.graph.node)
    copy, watched = _rounded(model, set(islands)), []
    if exact:
        watched = sorted({o for n in model.graph.node for o in n.output} & float_tensors(model))
        _watch(copy, watched)
    session = open_session(graph.stem, copy.SerializeToString(), threads)
    names = [tensor.name for tensor in graph.outputs]
    rows = [
        run_session(graph.stem, session, [*names, *(_LARGEST + w for w in watched)], {graph.input.name: value})
        for value in inputs
    ]
    outputs = tuple(np.concatenate([row[i] for row in rows]) for i in range(len(names)))
    largest = {w: max(float(row[len(names) + i].max()) for row in rows) for i, w in enumerate(watched)}
    return Measured(outputs, largest)


def output_error(reference: Measured, rounded: Measured) -> float:
    """The largest relative RMS error of an output; inf when a value is not finite."""
    errors = []
    for exact, found in zip(reference.outputs, rounded.outputs, strict=True):
        if not np.isfinite(found).all():
            return float("inf")
        spread = float(np.sqrt(np.mean(np.square(exact, dtype=np.float64))))
        difference = found.astype(np.float64) - exact
        errors.append(float(np.sqrt(np.mean(difference**2))) / max(spread, 1e-12))
    return max(errors)


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
            copy.graph.node.extend(_half_node(onnx, node, floats | weights, halved))
    return copy


def _half_node(onnx: Any, node: Any, floats: set[str], halved: set[str]) -> list[Any]:
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
