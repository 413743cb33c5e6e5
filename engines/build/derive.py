"""Derive the ONNX graph that a TensorRT version builds from the graph in a bundle.

A bundle's graphs have float32 inputs and outputs, and its int8 graphs are float32 with Q/DQ pairs at opset 17. A
strongly typed network computes in exactly the types of its ONNX, so the derived copy has float16 inputs, latents and
values around int8. For TensorRT 8.5 the copy replaces group norms by arithmetic and has float32 weights before Q/DQ
pairs. The bundle itself never changes.
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

RECIPE = 2  # version of the derivation, part of the cache key; increase it when derived graphs change
_QDQ_OPSET = 19  # the first opset with float16 Q/DQ
_HALF_BETWEEN = frozenset({"latent"})  # outputs that the next kernel reads as float16; final outputs stay float32
# Operators that stay float32 in a float16 graph: sums over many values, and divisions, exceed its range or precision.
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
    """The ONNX that the builder parses."""

    model: bytes
    sha256: str
    changed: bool  # whether it differs from the bundle's graph and needs a parity check
    dtypes: tuple[tuple[str, str], ...]  # (name, "float32" or "float16") of the input, then the outputs


def derive_graph(source: bytes, graph: GraphSpec, precision: str, *, flavour: Flavour) -> DerivedGraph:
    """Return the graph to build. Raises ModelError (not ONNX, or its opset is too new), MissingExtraError."""
    require("onnx", "rtx" if flavour.name == "tensorrt-rtx" else "tensorrt")
    model = parse_graph(source, graph.stem)
    changed = False
    if not flavour.strongly_typed:
        changed = spell_out_instance_norm(model) + unpack_weights(model) > 0
    if precision == "int8" and flavour.strongly_typed:
        model, changed = _convert_to_half(model, graph.stem), True
    if precision != "fp32":
        _halve_boundary(model, graph)
        changed = True
    _check_opset(model, graph.stem, flavour)
    data = model.SerializeToString(deterministic=True) if changed else source
    return DerivedGraph(model=data, sha256=sha256_bytes(data), changed=changed, dtypes=boundary_types(graph, precision))


def exact_graph(source: bytes, graph: GraphSpec, precision: str) -> bytes:
    """Return the bundle's graph with only its input and output types changed to those of the engine.

    It is the reference if ONNX Runtime can't run the derived graph. Raises ModelError, MissingExtraError.
    """
    model = parse_graph(source, graph.stem)
    if precision != "fp32":
        _halve_boundary(model, graph)
    return bytes(model.SerializeToString(deterministic=True))


def boundary_types(graph: GraphSpec, precision: str) -> tuple[tuple[str, str], ...]:
    """Return (name, dtype) of an engine's input, then its outputs. Tensors between kernels are float16 unless fp32."""
    half = precision != "fp32"
    outputs = [(t.name, "float16" if half and t.name in _HALF_BETWEEN else "float32") for t in graph.outputs]
    return ((graph.input.name, "float16" if half else "float32"), *outputs)


def _halve_boundary(model: ModelProto, graph: GraphSpec) -> None:
    halve_input(model, graph.input.name)
    for tensor in graph.outputs:
        if tensor.name in _HALF_BETWEEN:
            halve_output(model, tensor.name)


def _convert_to_half(model: ModelProto, stem: str) -> ModelProto:
    """Convert float32 nodes of an int8 graph to float16, except the islands and the head after the last convolution."""
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
    except Exception as error:  # the converters' exceptions have no common base class
        raise ModelError(f"{stem}: converting the int8 graph to float16 failed: {one_line(error)}") from error
    return model


def _head(model: ModelProto) -> list[str]:
    """Return the names of the nodes after the last convolution or Q/DQ pair: pooling, distances, scores."""
    needed: set[str] = set()
    head = []
    for node in reversed(model.graph.node):  # nodes are in topological order
        if node.op_type in _BODY or any(name in needed for name in node.output):
            needed.update(node.input)
        else:
            head.append(node.name)
    return head


def _check_opset(model: ModelProto, stem: str, flavour: Flavour) -> None:
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset > flavour.last_opset:
        raise ModelError(
            f"{stem}: {flavour} doesn't support opset {opset} (at most {flavour.last_opset}); export the bundle again"
        )
