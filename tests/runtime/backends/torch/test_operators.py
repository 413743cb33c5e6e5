"""Every operator compared with ONNX Runtime, at odd sizes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
onnx = pytest.importorskip("onnx", reason="needs onnx")

from one_operator import CASE, IMAGE, ROWS, assert_same, by_onnxruntime, by_torch, case, floats, ints, model_of

from leakrt.core.errors import ModelError
from leakrt.runtime.backends.torch.operators import OPERATORS
from leakrt.runtime.backends.torch.spatial import SPATIAL

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
    case("MatMul", shape=ROWS, constants=[floats(7, 5)]),
    case("MatMul", shape=ROWS, constants=[floats(3, 5, 4)], swap=True, name="batched, constant first"),
    case("Gemm", shape=(4, 7), constants=[floats(7, 5), floats(5)]),
    case("Gemm", shape=(4, 7), constants=[floats(5, 7)], transB=1, alpha=0.5, name="without C"),
    case(
        "Gemm",
        shape=(7, 4),
        constants=[floats(5, 7), floats(1, 5)],
        transA=1,
        transB=1,
        alpha=0.5,
        beta=2.0,
        name="transposed",
    ),
    case("Softmax", shape=ROWS, axis=1),
    case("Softmax", shape=ROWS, name="last axis"),
    case("LogSoftmax", shape=ROWS, axis=-2),
    case("LayerNormalization", shape=ROWS, constants=[floats(7), floats(7)], epsilon=1e-3),
    case("LayerNormalization", shape=ROWS, constants=[floats(4, 7)], axis=1, name="two axes, no bias"),
    *(case(op, shape=ROWS, axes=[1, -1], keepdims=0) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")),
    case("ReduceLogSumExp", shape=ROWS, axes=[-1], keepdims=1),
    case("ReduceLogSumExp", shape=ROWS, axes=[0, 2], keepdims=0, name="two axes"),
    case("ReduceMean", shape=ROWS, name="all axes"),
    case("ReduceSum", shape=ROWS, constants=[ints(0, -1)], keepdims=0),
    case("ReduceSum", shape=ROWS, noop_with_empty_axes=1, name="of no axes"),
    case("Cast", to=1),
    case("Reshape", constants=[ints(0, 3, -1)]),
    case("Flatten"),
    case("Flatten", axis=-1, name="last"),
    case("Flatten", axis=0, name="first"),
    case("Transpose", perm=[0, 2, 3, 1]),
    case("Transpose", name="reversed"),
    case("Squeeze", shape=(3, 1, 4, 1), constants=[ints(1, -1)]),
    case("Squeeze", shape=(3, 1, 4, 1), name="all"),
    case("Unsqueeze", shape=ROWS, constants=[ints(0, -1, 2)]),
    case("Slice", constants=[ints(1, -9), ints(1000, -2), ints(1, 2), ints(2, 3)]),
    case("Slice", constants=[ints(0, 2), ints(1, 5)], name="leading axes"),
    case("Slice", constants=[ints(1), ints(5), ints(-1)], name="last axis"),
    case("Split", outputs=3, axis=1),
    case("Split", constants=[ints(1, 2, 3)], outputs=3, axis=1, name="stated"),
    case("Concat", constants=[floats(2, 3, 21, 12)], axis=1),
    case("Gather", shape=ROWS, constants=[ints(2, 0, -1)], axis=1),
    case("Gather", shape=ROWS, constants=[np.array(-1, np.int64)], axis=-1, name="one"),
    case("Gather", shape=ROWS, constants=[np.array([[0, 1], [2, 2]], np.int64)], axis=0, name="a table"),
    case("Expand", shape=(3, 1, 4), constants=[ints(2, 1, 5, 1)]),
]  # fmt: skip


@pytest.mark.parametrize(CASE, CASES)
def test_it_matches_onnx_runtime(operator, shape, constants, attributes, low, outputs, swap):
    assert_same(operator, shape, constants, attributes=attributes, low=low, outputs=outputs, swap=swap)


def test_every_operator_is_tested_here_or_in_test_spatial():
    tested = {parameters.values[0] for parameters in CASES} | {"Shape", "ConstantOfShape"}  # those are tested below
    assert set(OPERATORS) - set(SPATIAL) == tested


def test_computed_shapes_work():
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


def test_an_unknown_operator_raises_one_line_with_its_name():
    model = model_of("Det", (3, 3), [], attributes={})
    with pytest.raises(ModelError, match=r"^g: the torch backend does not know Det y; run the bundle on another"):
        by_torch(model, floats(3, 3))


@pytest.mark.parametrize(
    ("operator", "constants", "attributes", "why"),
    [
        ("Cast", [], {"to": 16}, "Cast to ONNX type 16"),
        ("Slice", [ints(-1), ints(-1000), ints(2), ints(-1)], {}, "a Slice with a negative step"),
        ("Reshape", [ints(7, 7)], {}, "at Reshape y"),
    ],
)
def test_an_unsupported_attribute_raises_one_line_with_the_operator(operator, constants, attributes, why):
    model = model_of(operator, IMAGE, constants, attributes=attributes)
    with pytest.raises(ModelError, match=why) as error:
        by_torch(model, floats(*IMAGE))
    assert "\n" not in str(error.value)
