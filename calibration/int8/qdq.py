"""Explicit Q/DQ around float32, written by ONNX Runtime's quantiser from ranges of our own.

What every reader of the file takes (ONNX Runtime, OpenVINO, TensorRT 8.5 to 11 and RTX): symmetric int8, a scale for
each output channel of a weight, a Q/DQ pair of its own for each reader, weights as Q/DQ pairs around float32, biases
in float32 (TensorRT refuses int32 ones: onnxruntime issue 14229).

Weights take 7 of their 8 bits. x86 without int8 dot products adds two products of a pair of bytes in 16 bits and
saturates: 255 x 127 x 2 does not fit, 255 x 64 x 2 does. With 8 bits the same file moved latents by 15 % in ONNX
Runtime and 40 % in OpenVINO on such a machine; with 7 all machines and runtimes agree within rounding.
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
    """The tensors whose ranges `quantise` needs when all of `layers` are int8, in topological order."""
    wanted = {name for layer in layers for name in (layer.input, layer.output)}
    adds = set(residual_adds(model, {layer.name for layer in layers}))
    for node in model.graph.node:
        if node.name in adds:
            wanted.update((*node.input, *node.output))
    order = [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]
    return tuple(name for name in order if name in wanted)


def rectified_ranges(model: onnx.ModelProto, ranges: Mapping[str, float]) -> dict[str, float]:
    """A convolution's output takes the range of the Relu or LeakyRelu that alone reads it.

    Large negative values would set the range otherwise, and be thrown away or shrunk next. So the rectified values
    lie on the grid already and are not rounded twice; with LeakBench's encoder and 8-bit weights the latents' error
    fell from 0.15 to 0.11.
    """
    behind = rectified(model)
    return {name: ranges.get(behind.get(name, name), r) for name, r in ranges.items()}


def quantise(
    model: bytes,
    name: str,
    quantised: Collection[str],
    *,
    ranges: Mapping[str, float],
    weight_bits: int = WEIGHT_BITS[0],
) -> bytes:
    """The graph with the convolutions named in `quantised` as int8. With none, the graph as it is.

    Raises ModelError for a graph that the quantiser can't treat (see `layers.find_layers`) or a missing range.
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
    """Raises ModelError for a layer to quantise that the graph has not."""
    missing = sorted(set(quantised) - {layer.name for layer in layers})
    if missing:
        raise ModelError(f"{name}: there is no convolution {missing[0]}; calibrate again")


def require_ranges(needed: Collection[str], ranges: Mapping[str, float], name: str) -> None:
    """Raises ModelError for a tensor to quantise without a range."""
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
    except Exception as error:  # the quantiser raises ValueError, KeyError, RuntimeError and its own
        raise ModelError(f"{name}: ONNX Runtime's quantiser can't treat the graph ({one_line(error)})") from error
    finally:
        logging.getLogger().removeFilter(_drop_advice)
    return quantiser.model.model


def _drop_advice(record: logging.LogRecord) -> bool:
    """The quantiser advises a pre-processing that the exporter has done, at every call."""
    return "pre-processing" not in record.getMessage()


def checked(model: onnx.ModelProto, name: str) -> bytes:
    """The graph as a bundle holds it: opset 17 and nothing else, valid ONNX. Raises ModelError."""
    onnx = require("onnx", "train")
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", OPSET))
    model.producer_name, model.producer_version = "leakrt", ""
    del model.metadata_props[:]
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ModelError(f"{name}: the quantised graph is not valid ONNX ({one_line(error)})") from error
    return bytes(model.SerializeToString(deterministic=True))
