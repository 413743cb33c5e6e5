"""Reading a verified ONNX graph into OpenVINO, from its bytes alone and as ONNX means it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.errors import require


def open_core() -> Any:
    """An OpenVINO Core that reads ReduceLogSumExp rightly. Raises MissingExtraError."""
    core = require("openvino", "openvino").Core()
    frontend = require("openvino.frontend.onnx", "openvino")
    core.add_extension(frontend.ConversionExtension("ReduceLogSumExp", _log_sum_exp))
    return core


def hide_scales(model: Any) -> None:
    """Let no product with a constant that a Reshape follows be taken for a dequantisation; changes `model`.

    OpenVINO's int8 passes pull such a product through the Reshape. A factor for each step, [1, T, 1, 1, 1], becomes one
    for each channel there when T equals the number of channels, in silence, and a graph that can't be compiled when it
    does not. A factor whose batch is known at run time alone is left where it is.
    """
    ops = require("openvino.opset13", "openvino")
    for node in model.get_ordered_ops():
        followers = {target.get_node().get_type_name() for target in node.output(0).get_target_inputs()}
        if node.get_type_name() != "Multiply" or "Reshape" not in followers:
            continue
        for index in (0, 1):
            factor, value = node.input_value(index), node.input_value(1 - index)
            if factor.get_node().get_type_name() != "Constant" or not _is_per_row(factor, value):
                continue
            batch = ops.gather(ops.shape_of(value), ops.constant(np.zeros(1, np.int64)), ops.constant(np.int64(0)))
            rows = ops.broadcast(ops.constant(np.int64(0)), batch)  # the only row of the factor, for each of the batch
            node.input(index).replace_source_output(ops.gather(factor, rows, ops.constant(np.int64(0))).output(0))


def _is_per_row(factor: Any, value: Any) -> bool:
    """Whether the factor is the same for every row of a batch that is dynamic, and more than one number."""
    shape, rank = list(factor.get_shape()), value.get_partial_shape().rank
    if len(shape) < 2 or rank.is_dynamic or rank.get_length() != len(shape):
        return False
    return shape[0] == 1 and int(np.prod(shape)) > 1 and value.get_partial_shape()[0].is_dynamic


def _log_sum_exp(node: Any) -> Any:
    """log sum exp(x) = m + log sum exp(x - m) with m the maximum, over the axes that the node names.

    OpenVINO's own reader takes the axes from an input alone: at opsets 13 to 17 they are an attribute, and it reduces
    over everything (openvinotoolkit/openvino#38238). It leaves out the maximum too, and underflows for a face far from
    every prototype.
    """
    ops = require("openvino.opset13", "openvino")
    x = node.get_input(0)
    if node.get_input_size() > 1:
        axes = node.get_input(1)
    elif node.has_attribute("axes"):
        axes = ops.constant(np.asarray(node.get_attribute("axes"), np.int64))
    else:
        axes = ops.range(ops.constant(np.int64(0)), ops.squeeze(ops.shape_of(ops.shape_of(x)), 0), 1, "i64")
    top = ops.reduce_max(x, axes, keep_dims=True)
    found = ops.add(ops.log(ops.reduce_sum(ops.exp(ops.subtract(x, top)), axes, keep_dims=True)), top)
    kept = node.has_attribute("keepdims") and not node.get_attribute("keepdims")
    return ops.squeeze(found, axes).outputs() if kept else found.outputs()
