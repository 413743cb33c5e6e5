"""What a TensorRT version needs beyond the bundle's ONNX: float16 at the boundary and around int8, plain group norms,
float32 weights before Q/DQ pairs.

A bundle's graphs are float32 at their inputs and outputs, and int8 is Q/DQ around float32 at opset 17. Strong typing
takes the graph at its word, so the copy given to the builder says what shall be computed. Nothing here is written back.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...core.errors import ModelError, one_line, require
from ...core.files import sha256_bytes
from ...core.graphs import GraphSpec
from ...export.graph_io import parse_graph
from ..library.flavour import Flavour
from .surgery import halve_input, halve_output, spell_out_instance_norm, unpack_weights

if TYPE_CHECKING:
    from onnx import ModelProto

RECIPE = 2  # counts changes of what is derived: part of the cache key
_QDQ_OPSET = 19  # the first with float16 Q/DQ
_HALF_BETWEEN = frozenset({"latent"})  # outputs that another kernel reads in float16; results stay float32
# Float32 inside a float16 graph: what sums many values or divides, where 65504 and 3 digits are too little.
_ISLANDS = frozenset(
    [
        "Exp",
        "GlobalAveragePool",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "Log",
        "LogSoftmax",
        "Pow",
        "ReduceL2",
        "ReduceLogSumExp",
        "ReduceMean",
        "ReduceSum",
        "ReduceSumSquare",
        "Reciprocal",
        "Softmax",
        "Softplus",
        "Sqrt",
    ]
)
_BODY = frozenset({"Conv", "ConvTranspose", "DequantizeLinear", "QuantizeLinear"})


@dataclass(frozen=True, kw_only=True)
class DerivedGraph:
    """The ONNX that the builder gets."""

    model: bytes
    sha256: str
    changed: bool  # whether it differs from the bundle's, and so needs a parity check
    dtypes: tuple[tuple[str, str], ...]  # input and outputs in order: name, "float32" or "float16"


def derive_graph(source: bytes, graph: GraphSpec, precision: str, *, flavour: Flavour) -> DerivedGraph:
    """Derive from a bundle's graph. Raises ModelError (not ONNX, or an opset that is too new), MissingExtraError."""
    require("onnx", "rtx" if flavour.name == "tensorrt-rtx" else "tensorrt")
    model = parse_graph(source, graph.stem)
    changed = False
    if not flavour.strongly_typed:
        changed = spell_out_instance_norm(model) + unpack_weights(model) > 0
    if precision == "int8" and flavour.strongly_typed:
        model, changed = _halve_rest(model, graph.stem), True
    if precision != "fp32":
        _halve_boundary(model, graph)
        changed = True
    _check_opset(model, graph.stem, flavour)
    data = model.SerializeToString(deterministic=True) if changed else source
    return DerivedGraph(model=data, sha256=sha256_bytes(data), changed=changed, dtypes=boundary_types(graph, precision))


def exact_graph(source: bytes, graph: GraphSpec, precision: str) -> bytes:
    """A bundle's graph with the inputs and outputs of its engines and nothing else changed: what they are held against
    where ONNX Runtime can't run the derived graph. Raises ModelError, MissingExtraError."""
    model = parse_graph(source, graph.stem)
    if precision != "fp32":
        _halve_boundary(model, graph)
    return bytes(model.SerializeToString(deterministic=True))


def boundary_types(graph: GraphSpec, precision: str) -> tuple[tuple[str, str], ...]:
    """Input, then outputs of an engine: name and type. What lies between two kernels is float16 unless fp32."""
    half = precision != "fp32"
    outputs = [(t.name, "float16" if half and t.name in _HALF_BETWEEN else "float32") for t in graph.outputs]
    return ((graph.input.name, "float16" if half else "float32"), *outputs)


def _halve_boundary(model: ModelProto, graph: GraphSpec) -> None:
    halve_input(model, graph.input.name)
    for tensor in graph.outputs:
        if tensor.name in _HALF_BETWEEN:
            halve_output(model, tensor.name)


def _halve_rest(model: ModelProto, stem: str) -> ModelProto:
    """Float16 for what is not int8: up to the last convolution; the head behind it, and the islands, stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    try:
        model = onnx.version_converter.convert_version(model, _QDQ_OPSET)
        model = convert_float_to_float16(
            model, keep_io_types=True, op_block_list=sorted(_ISLANDS), node_block_list=_head(model)
        )
        OnnxModel.graph_topological_sort(model.graph)  # the converter appends its casts
        onnx.checker.check_model(model)
    except Exception as error:  # the converters raise what their parts raise
        raise ModelError(f"{stem}: the int8 graph can't be made float16 around its int8 ({one_line(error)})") from error
    return model


def _head(model: ModelProto) -> list[str]:
    """Names of the nodes with no convolution and no int8 behind them: pooling, distances, scores."""
    needed: set[str] = set()
    head = []
    for node in reversed(model.graph.node):  # nodes stand in topological order
        if node.op_type in _BODY or any(name in needed for name in node.output):
            needed.update(node.input)
        else:
            head.append(node.name)
    return head


def _check_opset(model: ModelProto, stem: str, flavour: Flavour) -> None:
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset > flavour.last_opset:
        raise ModelError(
            f"{stem}: opset {opset}, where {flavour} reads up to {flavour.last_opset}; export the bundle again"
        )
