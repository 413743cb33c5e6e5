"""Strongly typed FP16 graphs with FP32 islands, by ONNX Runtime's converter; inputs and outputs stay float32."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..core.errors import ModelError, require
from ..core.graphs import GraphSpec
from ..core.progress import Progress
from .graph_io import float_tensors, parse_graph
from .rounding import measure, output_error
from .sessions import one_line

if TYPE_CHECKING:
    import onnx

MIN_GAIN = 0.1  # share of the squared error that an operator must answer for to become an island
MAX_HALF = 32768.0  # half of float16's range: what has reached it on a few images may overflow on the next
# What carries nearly all of the work is never an island for its rounding: float16 is what it is there for.
WORKHORSES = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HalfGraph:
    """A graph in FP16, and what was measured on the way."""

    model: bytes
    islands: tuple[str, ...]  # node names that stay float32
    island_operators: tuple[str, ...]  # their operators, sorted
    error: float  # relative RMS error of the outputs, rounding every FP16 value
    error_without_islands: float  # the same with everything in FP16; inf when it overflows


def to_fp16(model: bytes, graph: GraphSpec, inputs: Sequence[Array], threads: int, progress: Progress) -> HalfGraph:
    """Convert one graph; `inputs` (float32 [1, ...] each) are what islands are measured on.

    A node becomes an island when its values reach half of float16's range, or its operator answers for at least a
    tenth of the squared error. Raises ModelError for a graph that can't be converted or is not float32.
    """
    parsed = parse_graph(model, graph.stem)
    _refuse_half(parsed, graph.stem)
    reference = measure(parsed, graph, frozenset(_all_nodes(parsed)), inputs, threads)
    bare = output_error(reference, measure(parsed, graph, frozenset(), inputs, threads))
    islands = _overflowing(parsed, reference.largest)
    operators = sorted({n.op_type for n in parsed.graph.node} - WORKHORSES)
    error = output_error(reference, measure(parsed, graph, islands, inputs, threads))
    chosen: list[str] = []
    for done, operator in enumerate(operators, 1):
        tried = islands | {n.name for n in parsed.graph.node if n.op_type == operator}
        found = output_error(reference, measure(parsed, graph, tried, inputs, threads))
        if found**2 < (1.0 - MIN_GAIN) * error**2:
            islands, error = tried, found
            chosen.append(operator)
        progress(f"float32 islands of {graph.stem}", done, len(operators))
    kept = tuple(n.name for n in parsed.graph.node if n.name in islands)
    names = sorted({n.op_type for n in parsed.graph.node if n.name in islands})
    return HalfGraph(convert(parsed, graph.stem, kept), kept, tuple(names), error, bare)


def convert(model: onnx.ModelProto, name: str, islands: Collection[str]) -> bytes:
    """FP16 everywhere but in the named nodes and at inputs and outputs. Raises ModelError."""
    onnx = require("onnx", "train")
    require("packaging", "train")
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    try:
        half = convert_float_to_float16(
            copy, keep_io_types=True, op_block_list=[], node_block_list=list(islands), disable_shape_infer=False
        )
        half = onnx.shape_inference.infer_shapes(half)
        onnx.checker.check_model(half, full_check=True)
    except Exception as error:  # the converter raises what its parts raise
        raise ModelError(f"{name}: the graph can't be made FP16 ({one_line(error)})") from error
    half.producer_name, half.producer_version = "leakrt", ""
    del half.metadata_props[:]
    return bytes(half.SerializeToString(deterministic=True))


def _overflowing(model: onnx.ModelProto, largest: dict[str, float]) -> frozenset[str]:
    """Nodes that read or write values beyond half of float16's range."""
    wide = {name for name, value in largest.items() if not value < MAX_HALF}
    return frozenset(n.name for n in model.graph.node if wide & {*n.input, *n.output})


def _all_nodes(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node]


def _refuse_half(model: onnx.ModelProto, name: str) -> None:
    if any(tensor.data_type == 10 for tensor in model.graph.initializer):  # onnx.TensorProto.FLOAT16
        raise ModelError(f"{name}: the graph is FP16 already; convert the fp32 graph of a bundle")
    if any("QuantizeLinear" in node.op_type for node in model.graph.node):
        raise ModelError(f"{name}: the graph is quantised; convert the fp32 graph of a bundle")
    if not float_tensors(model):
        raise ModelError(f"{name}: the graph holds no float32 tensor; export the bundle again")
