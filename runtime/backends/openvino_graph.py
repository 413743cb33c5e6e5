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
