"""Explicit Q/DQ graphs, written by ONNX Runtime's quantiser from the ranges of `ranges`.

ONNX Runtime, OpenVINO, TensorRT 8.5 to 11 and TensorRT-RTX all support this format: symmetric int8, one scale per
output channel of a weight, a dedicated Q/DQ pair per reader of a tensor, weights as Q/DQ pairs around float32, biases
in float32 (TensorRT rejects int32 biases: onnxruntime issue 14229).

Weights use 7 of their 8 bits by default. x86 CPUs without int8 dot products add two products of bytes in 16 bits and
saturate: 255 x 127 x 2 overflows, 255 x 64 x 2 does not. With 7 bits, all machines and runtimes agree within rounding.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import ModelError, one_line, require
from ...export.graph_io import parse_graph
from ..layers import Layer, find_layers, rectified, residual_adds

if TYPE_CHECKING:
    import onnx

OPSET = 17
WEIGHT_BITS = (7, 8)  # the default first
_OPTIONS = {
    "ActivationSymmetric": True,
    "WeightSymmetric": True,
    "AddQDQPairToWeight": True,
    "DedicatedQDQPair": True,
    "QuantizeBias": False,
}


def observed_tensors(model: onnx.ModelProto, layers: Collection[Layer]) -> tuple[str, ...]:
    """Return the tensors whose ranges `quantise` needs if all of `layers` are int8, in topological order."""
    wanted = {name for layer in layers for name in (layer.input, layer.output)}
    adds = set(residual_adds(model, {layer.name for layer in layers}))
    for node in model.graph.node:
        if node.name in adds:
            wanted.update((*node.input, *node.output))
    order = [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]
    return tuple(name for name in order if name in wanted)


def rectified_ranges(model: onnx.ModelProto, ranges: Mapping[str, float]) -> dict[str, float]:
    """Return `ranges` with the output range of each convolution replaced by that of its Relu or LeakyRelu.

    Applies to outputs whose only reader is such an activation. Otherwise large negative values, which the activation
    removes or shrinks, would set the range, and the activated values would be rounded twice.
    """
    activated = rectified(model)
    return {name: ranges.get(activated.get(name, name), r) for name, r in ranges.items()}


def quantise(
    model: bytes,
    name: str,
    quantised: Collection[str],
    *,
    ranges: Mapping[str, float],
    weight_bits: int = WEIGHT_BITS[0],
) -> bytes:
    """Return the graph with the convolutions named in `quantised` in int8. Without names, the graph is unchanged.

    Raises ModelError for an unsupported graph (see `layers.find_layers`) or a missing range.
    """
    if not quantised:
        return model
    parsed = parse_graph(model, name)
    layers = find_layers(parsed, name)
    require_known(layers, quantised, name)
    chosen = [layer for layer in layers if layer.name in quantised]
    nodes = [*(layer.name for layer in chosen), *residual_adds(parsed, quantised)]
    needed = observed_tensors(parsed, chosen)
    require_ranges(needed, ranges, name)
    result = _run_quantiser(
        parsed, name, nodes, ranges={tensor: ranges[tensor] for tensor in needed}, weight_bits=weight_bits
    )
    return checked(result, name)


def require_known(layers: Collection[Layer], quantised: Collection[str], name: str) -> None:
    """Raise ModelError if the graph lacks a layer to quantise."""
    missing = sorted(set(quantised) - {layer.name for layer in layers})
    if missing:
        raise ModelError(f"{name}: the graph has no convolution {missing[0]}; calibrate again")


def require_ranges(needed: Collection[str], ranges: Mapping[str, float], name: str) -> None:
    """Raise ModelError if a tensor to quantise has no range."""
    absent = [tensor for tensor in needed if tensor not in ranges]
    if absent:
        raise ModelError(f"{name}: no range was collected for {absent[0]}; calibrate again")


def _run_quantiser(
    model: onnx.ModelProto, name: str, nodes: list[str], *, ranges: Mapping[str, float], weight_bits: int
) -> onnx.ModelProto:
    require("onnx", "train")
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    data = {t: TensorData(lowest=np.float32(-r), highest=np.float32(r)) for t, r in ranges.items()}
    logging.getLogger().addFilter(_drop_advice)
    try:
        quantiser = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=weight_bits == 7,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=nodes,
            nodes_to_exclude=[],
            op_types_to_quantize=["Conv", "Add"],
            extra_options=dict(_OPTIONS),
        )
        quantiser.quantize_model()
        quantiser.model.topological_sort()
    except Exception as error:  # the quantiser raises ValueError, KeyError, RuntimeError and custom exceptions
        raise ModelError(f"{name}: ONNX Runtime's quantiser failed: {one_line(error)}; use the fp32 variant") from error
    finally:
        logging.getLogger().removeFilter(_drop_advice)
    return quantiser.model.model


def _drop_advice(record: logging.LogRecord) -> bool:
    """Drop the quantiser's advice to pre-process the graph, which the exporter has already done."""
    return "pre-processing" not in record.getMessage()


def checked(model: onnx.ModelProto, name: str) -> bytes:
    """Return the serialised graph in the form that a bundle needs: opset 17, valid ONNX. Raises ModelError."""
    onnx = require("onnx", "train")
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    model.producer_name, model.producer_version = "leakrt", ""
    del model.metadata_props[:]
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ModelError(
            f"{name}: the quantised graph is not valid ONNX: {one_line(error)}; use the fp32 variant"
        ) from error
    return bytes(model.SerializeToString(deterministic=True))
