"""Graphs give the same results in OpenVINO and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from leakrt.runtime.backends import openvino
from leakrt.runtime.backends.openvino_graph import hide_scales, open_core

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'leakrt[train]'")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto
pytestmark = pytest.mark.skipif(
    not openvino.probe().runs, reason="openvino is not installed: pip install 'leakrt[openvino]'"
)
CHANNELS = 4


def scaled_then_int8(steps: int) -> bytes:
    """A factor for each step, a Reshape that joins batch and steps, and an int8 convolution."""
    rng = np.random.default_rng(steps)
    values = {
        "factors": np.linspace(0.2, 2.0, steps, dtype=np.float32).reshape(1, steps, 1, 1, 1),
        "shape": np.array([-1, CHANNELS, 7, 5], np.int64),
        "scale": np.float32(0.03),
        "zero": np.int8(0),
        "weights": rng.standard_normal((6, CHANNELS, 3, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Mul", ["noised", "factors"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["rows"]),
        helper.make_node("QuantizeLinear", ["rows", "scale", "zero"], ["codes"]),
        helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["rounded"]),
        helper.make_node("Conv", ["rounded", "weights"], ["out"]),
    ]
    noised = helper.make_tensor_value_info("noised", TensorProto.FLOAT, ["batch", steps, CHANNELS, 7, 5])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["rows", 6, 5, 3])
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "graph", [noised], [out], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize("steps", [1, 3, CHANNELS, 5])
@pytest.mark.parametrize("batch", [1, 3])
def test_step_factors_are_kept_before_an_int8_convolution(steps, batch):
    model = scaled_then_int8(steps)
    noised = np.random.default_rng(batch).standard_normal((batch, steps, CHANNELS, 7, 5), np.float32)
    wanted = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"noised": noised})[0]
    core = open_core()
    read = core.read_model(model=model)
    hide_scales(read)
    found = core.compile_model(read, "CPU", openvino.settings(1))(noised)[0]
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 0.01 * np.abs(wanted).max()  # quantized values may round differently
