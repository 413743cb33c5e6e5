"""Patches times weights equal ONNX Runtime's convolution for every kind of padding."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt.calibration.int8.patches import patches, window_of
from leakrt.core.errors import ModelError

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def convolve(x, w, **attributes):
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], "c", **attributes)
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", floats, x.shape)],
        [onnx.helper.make_tensor_value_info("y", floats, None)],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return node, session.run(None, {"x": x})[0]


CASES = [
    {},
    {"pads": [1, 1, 1, 1]},
    {"pads": [0, 1, 2, 0], "strides": [2, 3]},
    {"dilations": [2, 1], "pads": [2, 0, 0, 1]},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "SAME_LOWER"},
    {"auto_pad": "VALID", "strides": [2, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [3, 2]},
]


@pytest.mark.parametrize("attributes", CASES, ids=lambda c: " ".join(c) or "plain")
@pytest.mark.parametrize("kernel", [(3, 3), (2, 2), (1, 1), (3, 2)])
def test_patches_times_weights_is_the_convolution(attributes, kernel):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 11, 13), dtype=np.float32)
    w = rng.standard_normal((5, 3, *kernel), dtype=np.float32)
    node, y = convolve(x, w, **attributes)
    flat = np.moveaxis(y, 1, -1).reshape(-1, 5)
    places = np.sort(rng.choice(len(flat), 20, replace=False))
    found = patches(x, window_of(node, kernel), places) @ w.reshape(5, -1).T
    np.testing.assert_allclose(found, flat[places], atol=1e-4)


def test_a_convolution_in_groups_or_of_one_dimension_has_no_window():
    grouped = onnx.helper.make_node("Conv", ["x", "w"], ["y"], group=2)
    assert window_of(grouped, (3, 3)) is None
    assert window_of(onnx.helper.make_node("Conv", ["x", "w"], ["y"]), (3,)) is None


def test_a_place_outside_is_refused():
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    with pytest.raises(ModelError, match="more outputs"):
        patches(np.zeros((1, 2, 4, 4), np.float32), window_of(node, (3, 3)), np.array([4]))
