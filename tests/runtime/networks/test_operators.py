"""Every operator against ONNX Runtime, at odd sizes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
onnx = pytest.importorskip("onnx", reason="needs onnx")

from leakrt.core.errors import ModelError
from leakrt.export.weights import network_of
from leakrt.runtime.networks.network import Arithmetic, TorchNetwork
from leakrt.runtime.networks.operators import OPERATORS

IMAGE, ROWS = (2, 6, 21, 12), (3, 4, 7)


def floats(*shape: int, seed: int = 1, low: float = -2.0, high: float = 2.0):
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def ints(*values: int):
    return np.array(values, np.int64)


def model_of(operator: str, shape, constants, attributes, outputs: int = 1, swap: bool = False) -> bytes:
    """One operator on `x` and constants, summed up where it gives several."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    names, tensors = [], []
    for i, constant in enumerate(constants):
        names.append("" if constant is None else f"c{i}")
        if constant is not None:
            tensors.append(onnx.numpy_helper.from_array(np.asarray(constant), f"c{i}"))
    inputs = [*names, "x"] if swap else ["x", *names]
    written = ["y"] if outputs == 1 else [f"y{i}" for i in range(outputs)]
    nodes = [helper.make_node(operator, inputs, written, **attributes)]
    if outputs > 1:
        nodes.append(helper.make_node("Concat", list(reversed(written)), ["y"], axis=attributes.get("axis", 0)))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)], tensors,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def by_onnxruntime(model: bytes, x):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})[0]


def by_torch(model: bytes, x):
    network = TorchNetwork(network_of(model, "g"), "g", Arithmetic(), torch.device("cpu"))
    with torch.inference_mode():
        return network(torch.from_numpy(x))[0].numpy()


def case(operator, shape=IMAGE, constants=(), low=-2.0, name="", outputs=1, swap=False, **attributes):
    label = f"{operator}{'-' if name else ''}{name}"
    return pytest.param(operator, shape, constants, attributes, low, outputs, swap, id=label)


W = floats(5, 6, 3, 4, seed=2)
SIZE = ints(0, 0, 0, 0)
CASES = [
    *(case(op, constants=[floats(6, 1, 1)]) for op in ("Add", "Sub", "Mul", "Div", "Min", "Max")),
    case("Sub", constants=[floats(12)], swap=True, name="constant first"),
    case("Sum", constants=[floats(6, 1, 1), floats(12)]),
    case("Pow", constants=[np.float32(2.0)]),
    case("Pow", constants=[floats(12)], low=0.1, name="positive"),
    *(case(op) for op in ("Neg", "Abs", "Exp", "Erf", "Relu", "Sigmoid", "Tanh", "Softplus", "HardSwish", "Identity")),
    *(case(op, low=0.1) for op in ("Sqrt", "Log", "Reciprocal")),
    case("HardSigmoid"),
    case("HardSigmoid", alpha=0.3, beta=0.4, name="stated"),
    case("LeakyRelu"),
    case("LeakyRelu", alpha=0.3, name="stated"),
    case("Elu"),
    case("Elu", alpha=0.7, name="stated"),
    case("PRelu", constants=[floats(6, 1, 1)]),
    case("Clip", constants=[np.float32(-0.5), np.float32(1.0)]),
    case("Clip", constants=[None, np.float32(0.5)], name="above only"),
    case("Clip", name="nothing"),
    case("Dropout"),
    case("MatMul", ROWS, [floats(7, 5)]),
    case("MatMul", ROWS, [floats(3, 5, 4)], swap=True, name="batched, constant first"),
    case("Gemm", (4, 7), [floats(7, 5), floats(5)]),
    case("Gemm", (4, 7), [floats(5, 7)], transB=1, alpha=0.5, name="without C"),
    case("Gemm", (7, 4), [floats(5, 7), floats(1, 5)], transA=1, transB=1, alpha=0.5, beta=2.0, name="transposed"),
    case("Softmax", ROWS, axis=1),
    case("Softmax", ROWS, name="last axis"),
    case("LogSoftmax", ROWS, axis=-2),
    case("LayerNormalization", ROWS, [floats(7), floats(7)], epsilon=1e-3),
    case("LayerNormalization", ROWS, [floats(4, 7)], axis=1, name="two axes, no bias"),
    *(case(op, ROWS, axes=[1, -1], keepdims=0) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")),
    case("ReduceLogSumExp", ROWS, axes=[-1], keepdims=1),
    case("ReduceLogSumExp", ROWS, axes=[0, 2], keepdims=0, name="two axes"),
    case("ReduceMean", ROWS, name="all axes"),
    case("ReduceSum", ROWS, [ints(0, -1)], keepdims=0),
    case("ReduceSum", ROWS, noop_with_empty_axes=1, name="of no axes"),
    case("Cast", to=1),
    case("Reshape", constants=[ints(0, 3, -1)]),
    case("Flatten"),
    case("Flatten", axis=-1, name="last"),
    case("Flatten", axis=0, name="first"),
    case("Transpose", perm=[0, 2, 3, 1]),
    case("Transpose", name="reversed"),
    case("Squeeze", (3, 1, 4, 1), [ints(1, -1)]),
    case("Squeeze", (3, 1, 4, 1), name="all"),
    case("Unsqueeze", ROWS, [ints(0, -1, 2)]),
    case("Slice", constants=[ints(1, -9), ints(1000, -2), ints(1, 2), ints(2, 3)]),
    case("Slice", constants=[ints(0, 2), ints(1, 5)], name="leading axes"),
    case("Slice", constants=[ints(1), ints(5), ints(-1)], name="last axis"),
    case("Split", outputs=3, axis=1),
    case("Split", constants=[ints(1, 2, 3)], outputs=3, axis=1, name="stated"),
    case("Concat", constants=[floats(2, 3, 21, 12)], axis=1),
    case("Gather", ROWS, [ints(2, 0, -1)], axis=1),
    case("Gather", ROWS, [np.array(-1, np.int64)], axis=-1, name="one"),
    case("Gather", ROWS, [np.array([[0, 1], [2, 2]], np.int64)], axis=0, name="a table"),
    case("Expand", (3, 1, 4), [ints(2, 1, 5, 1)]),
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
    case("DepthToSpace", (2, 12, 5, 3), blocksize=2),
    case("DepthToSpace", (2, 12, 5, 3), blocksize=2, mode="CRD", name="CRD"),
    case("SpaceToDepth", (2, 3, 6, 8), blocksize=2),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "shape", "constants", "attributes", "low", "outputs", "swap"), CASES)
def test_it_gives_what_onnx_runtime_gives(operator, shape, constants, attributes, low, outputs, swap):
    model = model_of(operator, shape, constants, attributes, outputs, swap)
    x = floats(*shape, low=low)
    wanted, found = by_onnxruntime(model, x), by_torch(model, x)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


def test_every_operator_that_is_known_is_tested():
    tested = {parameters.values[0] for parameters in CASES} | {"Shape", "ConstantOfShape"}  # those are tested below
    assert set(OPERATORS) == tested


def test_shapes_that_are_computed_are_followed():
    """Reshape to [x.shape[0], -1] by Shape, Gather and Concat, as exporters write a flatten."""
    helper, kind = onnx.helper, onnx.TensorProto
    constants = {"zero": np.array(0, np.int64), "axis": ints(0), "rest": ints(-1), "two": ints(2)}
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["count"], axis=0),
        helper.make_node("Div", ["count", "two"], ["half"]),
        helper.make_node("Mul", ["half", "two"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["same"], to=kind.INT64),
        helper.make_node("Concat", ["same", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("ConstantOfShape", ["same"], ["fill"], value=helper.make_tensor("v", kind.FLOAT, [1], [3.0])),
        helper.make_node("Unsqueeze", ["fill", "rest"], ["column"]),
        helper.make_node("Add", ["flat", "column"], ["y"]),
    ]
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", kind.FLOAT, ["b", 6, 5, 3])],
        [helper.make_tensor_value_info("y", kind.FLOAT, None)], tensors,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    x = floats(4, 6, 5, 3)
    np.testing.assert_array_equal(by_torch(model, x), by_onnxruntime(model, x))


def test_an_unknown_operator_is_one_line_that_names_it():
    model = model_of("Det", (3, 3), [], {})
    with pytest.raises(ModelError, match=r"^g: the torch backend does not know Det y; run the bundle on another"):
        by_torch(model, floats(3, 3))


@pytest.mark.parametrize(
    ("operator", "constants", "attributes", "why"),
    [
        ("AveragePool", [], {"kernel_shape": [2, 2], "ceil_mode": 1}, "AveragePool with ceil_mode"),
        ("MaxPool", [], {"kernel_shape": [2, 2], "ceil_mode": 1}, "MaxPool with ceil_mode"),
        ("Cast", [], {"to": 16}, "Cast to ONNX type 16"),
        ("Pad", [ints(0, 0, 1, 1, 0, 0, 1, 1)], {"mode": "wrap"}, "Pad in mode wrap"),
        ("Resize", [None, np.float32([1, 1, 2, 2])], {"mode": "cubic"}, "Resize in mode cubic"),
        ("BatchNormalization", [floats(6)] * 4, {"training_mode": 1}, "BatchNormalization in training mode"),
        ("Conv", [floats(5, 6, 3)], {"strides": [1]}, "operators on images only"),
        ("Slice", [ints(-1), ints(-1000), ints(2), ints(-1)], {}, "a Slice with a negative step"),
        ("Reshape", [ints(7, 7)], {}, "at Reshape y"),
    ],
)
def test_what_an_operator_can_not_do_is_one_line_that_names_it(operator, constants, attributes, why):
    model = model_of(operator, IMAGE, constants, attributes)
    with pytest.raises(ModelError, match=why) as error:
        by_torch(model, floats(*IMAGE))
    assert "\n" not in str(error.value)
