"""Image operators compared with ONNX Runtime, at odd sizes; unsupported attributes are refused."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")

from one_operator import CASE, IMAGE, assert_same, by_torch, case, floats, ints, model_of

from leakrt.core.errors import ModelError
from leakrt.runtime.backends.torch.spatial import SPATIAL

W = floats(5, 6, 3, 4, seed=2)
CASES = [
    case("Conv", constants=[W, floats(5)], pads=[1, 2, 1, 2], strides=[2, 3], dilations=[1, 2]),
    case("Conv", constants=[W], pads=[0, 0, 1, 1], strides=[2, 2], name="uneven"),
    case("Conv", constants=[W], auto_pad="SAME_UPPER", strides=[2, 2], name="same upper"),
    case("Conv", constants=[W], auto_pad="SAME_LOWER", strides=[2, 3], name="same lower"),
    case("Conv", constants=[W], auto_pad="VALID", name="valid"),
    case("Conv", constants=[floats(6, 1, 3, 3)], group=6, name="depthwise"),
    case("AveragePool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("AveragePool", kernel_shape=[3, 2], pads=[1, 0, 1, 0], count_include_pad=1, name="padding counts"),
    case("AveragePool", kernel_shape=[8, 8], strides=[8, 8], name="plain"),
    case("AveragePool", kernel_shape=[2, 2], pads=[0, 0, 1, 1], count_include_pad=1, name="uneven"),
    case("MaxPool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1]),
    case("MaxPool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER", name="same"),
    case("MaxPool", kernel_shape=[2, 2], dilations=[2, 3], name="dilated"),
    case("GlobalAveragePool"),
    case("GlobalMaxPool"),
    case("BatchNormalization", constants=[floats(6), floats(6), floats(6), floats(6, low=0.1)], epsilon=1e-3),
    case("InstanceNormalization", constants=[floats(6), floats(6)], epsilon=1e-3),
    case("Pad", constants=[ints(0, 0, 1, 2, 0, 0, 3, 0)]),
    case("Pad", constants=[ints(0, 1, 1, 2, 0, 0, 3, 0), np.float32(0.7)], name="with a value, channels too"),
    case("Pad", constants=[ints(0, 0, 1, 2, 0, 0, 3, 4)], mode="reflect", name="reflect"),
    case("Pad", constants=[ints(0, 0, 1, 2, 0, 0, 3, 4)], mode="edge", name="edge"),
    case("Resize", constants=[None, np.float32([1, 1, 2, 3])], mode="nearest",
         coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    case("Resize", constants=[None, np.float32([1, 1, 2, 2])], mode="linear", name="linear"),
    case("Resize", constants=[None, None, ints(2, 6, 30, 25)], mode="linear", name="to a size"),
    case("Resize", constants=[None, None, ints(2, 6, 30, 25)], mode="linear",
         coordinate_transformation_mode="align_corners", name="corners"),
    case("DepthToSpace", shape=(2, 12, 5, 3), blocksize=2),
    case("DepthToSpace", shape=(2, 12, 5, 3), blocksize=2, mode="CRD", name="CRD"),
    case("SpaceToDepth", shape=(2, 3, 6, 8), blocksize=2),
    case("Conv", shape=(1, 6, 3, 4), constants=[W], name="to one pixel"),
    case("Conv", shape=(3, 6, 1, 1), constants=[W], pads=[1, 2, 1, 1], name="of one pixel"),
    case("Conv", constants=[floats(4, 3, 3, 3)], group=2, auto_pad="SAME_UPPER", strides=[3, 2],
         name="same, grouped"),
    case("Conv", constants=[W], auto_pad="VALID", strides=[2, 1], dilations=[2, 3], name="valid, dilated"),
    case("AveragePool", kernel_shape=[3, 3], strides=[2, 2], auto_pad="VALID", name="valid"),
    case("MaxPool", kernel_shape=[3, 2], strides=[3, 2], pads=[0, 1, 1, 0], low=-9.0, name="uneven"),
    case("Pad", constants=[ints(0, 0, 0, 0, 0, 0, 0, 0)], mode="reflect", name="by nothing"),
    case("Pad", constants=[ints(0, 0, -1, 2, 0, 0, -3, 0)], name="which crops"),
    case("Resize", constants=[None, np.float32([1, 1, 0.5, 1.5])], mode="linear",
         coordinate_transformation_mode="pytorch_half_pixel", name="smaller and larger"),
    case("Resize", constants=[None, np.float32([1, 1, 0.7, 1.3])], mode="linear", name="to sizes rounded down"),
    case("Resize", constants=[None, np.float32([1, 1, 0.7, 1.3])], mode="linear",
         coordinate_transformation_mode="align_corners", name="corners, to sizes rounded down"),
    case("Resize", constants=[None, np.float32([1, 1, 1.3, 2.6])], mode="nearest",
         coordinate_transformation_mode="asymmetric", nearest_mode="floor", name="nearest, to sizes rounded down"),
    case("Resize", constants=[None, None, ints(2, 6, 30, 25)], mode="nearest",
         coordinate_transformation_mode="asymmetric", nearest_mode="floor", name="nearest, to a size"),
    case("Resize", shape=(3, 6, 1, 1), constants=[None, np.float32([1, 1, 3, 2])], mode="linear", name="of one pixel"),
]  # fmt: skip


@pytest.mark.parametrize(CASE, CASES)
def test_it_matches_onnx_runtime(operator, shape, constants, attributes, low, outputs, swap):
    assert_same(operator, shape, constants, attributes=attributes, low=low, outputs=outputs, swap=swap)


def test_every_operator_on_images_is_tested():
    assert set(SPATIAL) == {parameters.values[0] for parameters in CASES}


@pytest.mark.parametrize(
    ("axes", "mode"), [([2, 3], "constant"), ([-1], "constant"), ([3, 1], "constant"), ([3, 2], "edge"), ([-1], "edge")]
)
def test_axes_to_pad_may_be_named(axes, mode):
    """Since opset 18."""
    pads = ints(*range(1, 1 + 2 * len(axes)))
    value = np.float32(0.25) if mode == "constant" else None
    assert_same(
        "Pad", IMAGE, [pads, value, ints(*axes)], attributes={"mode": mode}, low=-2.0, outputs=1, swap=False, opset=18
    )


def test_max_pooling_pads_with_less_than_any_value():
    x = np.full((1, 1, 3, 3), -7.0, np.float32)
    model = model_of("MaxPool", x.shape, [], attributes={"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})
    np.testing.assert_array_equal(by_torch(model, x), x)


@pytest.mark.parametrize(
    ("operator", "constants", "attributes", "why"),
    [
        ("AveragePool", [], {"kernel_shape": [2, 2], "ceil_mode": 1}, "AveragePool with ceil_mode"),
        ("AveragePool", [], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}, "uneven padding that does not count"),
        ("MaxPool", [], {"kernel_shape": [2, 2], "ceil_mode": 1}, "MaxPool with ceil_mode"),
        ("Pad", [ints(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "wrap"}, "Pad in mode wrap"),
        ("Resize", [None, np.float32([1, 1, 2, 2])], {"mode": "cubic"}, "Resize in mode cubic"),
        ("Resize", [None, np.float32([1, 1, 2, 2])], {"mode": "nearest"}, "Resize in mode nearest with half_pixel"),
        ("Resize", [None, np.float32([1, 1, 2, 2])], {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
         "Resize in mode linear with asymmetric"),
        ("Resize", [None, np.float32([1, 1, 2, 2])], {"coordinate_transformation_mode": "asymmetric"},
         "Resize in mode nearest with asymmetric and round_prefer_floor"),
        ("Resize", [None, np.float32([1, 2, 2, 2])], {"mode": "linear"}, "a Resize of other axes"),
        ("BatchNormalization", [floats(6)] * 4, {"training_mode": 1}, "BatchNormalization in training mode"),
        ("Conv", [floats(5, 6, 3)], {"strides": [1]}, r"strides \[1\]: .* operators on images only"),
        ("Conv", [W], {"pads": [1, 1]}, r"pads \[1, 1\]: .* operators on images only"),
        ("Conv", [floats(5, 4, 3, 3)], {}, "at Conv y"),
    ],
)  # fmt: skip
def test_an_unsupported_attribute_raises_one_line_with_the_operator(operator, constants, attributes, why):
    model = model_of(operator, IMAGE, constants, attributes=attributes)
    with pytest.raises(ModelError, match=why) as error:
        by_torch(model, floats(*IMAGE))
    assert "\n" not in str(error.value)
