"""Workarounds for OpenVINO's ONNX frontend and its int8 passes."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.errors import require


def open_core() -> Any:
    """Return an OpenVINO Core that converts ReduceLogSumExp correctly. Raises MissingExtraError."""
    core = require("openvino", "openvino").Core()
    frontend = require("openvino.frontend.onnx", "openvino")
    core.add_extension(frontend.ConversionExtension("ReduceLogSumExp", _log_sum_exp))
    return core


def hide_scales(model: Any) -> None:
    """Keep OpenVINO from treating a constant Multiply before a Reshape as a dequantization. Changes `model` in place.

    OpenVINO's int8 passes move such a Multiply past the Reshape. A factor per step, [1, T, 1, 1, 1], then silently
    becomes a factor per channel if T equals the number of channels; otherwise the graph fails to compile. The passes
    leave a factor with a dynamic batch dimension in place, so the factor is broadcast to the batch at run time.
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
            rows = ops.broadcast(ops.constant(np.int64(0)), batch)  # [B] zeros: repeats the factor's only row
            node.input(index).replace_source_output(ops.gather(factor, rows, ops.constant(np.int64(0))).output(0))


def _is_per_row(factor: Any, value: Any) -> bool:
    """Return whether the factor has several elements, shared by all rows of a dynamic batch."""
    shape, rank = list(factor.get_shape()), value.get_partial_shape().rank
    if len(shape) < 2 or rank.is_dynamic or rank.get_length() != len(shape):
        return False
    return shape[0] == 1 and int(np.prod(shape)) > 1 and value.get_partial_shape()[0].is_dynamic


def _log_sum_exp(node: Any) -> Any:
    """Convert ReduceLogSumExp as m + log sum exp(x - m), where m is the maximum of x over the node's axes.

    OpenVINO's own converter reads the axes only from an input. At opsets 13 to 17 they are an attribute, and it reduces
    over all axes (openvinotoolkit/openvino#38238). It also omits the maximum and underflows for a face that is far from
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
