"""Convolutions that can be int8, and their number of multiplications."""

import numpy as np
import pytest
from bundles import Graph

onnx = pytest.importorskip("onnx")

from leakrt.calibration.int8.qdq import observed_tensors, quantise
from leakrt.calibration.layers import (
    Layer,
    find_layers,
    int8_layers,
    int8_share,
    is_quantised,
    rectified,
    residual_adds,
)
from leakrt.core.errors import ModelError


def residual():
    """conv a, relu, conv b, added to what a gave, then relu, conv c: 5 x 7 throughout, 3 -> 4 -> 4 -> 2 channels."""
    g = Graph(np.random.default_rng(0))
    first = g.op("Relu", g.conv("x", 3, 4, kernel=3, stride=1, out="a"), out="first")
    g.conv(first, 4, 4, kernel=3, stride=1, out="b")
    g.op("Relu", g.op("Add", "b", first, out="sum"), out="joined")
    g.conv("joined", 4, 2, kernel=1, stride=1, out="y")
    return g


def built(graph, shape=("B", 3, 5, 7), out=("B", 2, 5, 7)):
    model = onnx.load_model_from_string(graph.build({"x": list(shape)}, {"y": list(out)}))
    for i, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{i}"
    return onnx.shape_inference.infer_shapes(model)


def test_layers_stand_in_order_with_the_multiplications_of_one_row():
    assert find_layers(built(residual()), "net") == (
        Layer(name="Conv0", input="x", output="a", multiplications=35 * 4 * 3 * 9),
        Layer(name="Conv2", input="first", output="b", multiplications=35 * 4 * 4 * 9),
        Layer(name="Conv5", input="joined", output="y", multiplications=35 * 2 * 4),
    )


def test_the_share_is_of_multiplications_and_not_of_layers():
    layers = [
        Layer(name="a", input="", output="", multiplications=30),
        Layer(name="b", input="", output="", multiplications=60),
        Layer(name="c", input="", output="", multiplications=10),
    ]
    assert int8_share(layers, [], 100) == 0
    assert int8_share(layers, ["b"], 100) == 0.6
    assert int8_share(layers, ["a", "b", "c", "foreign"], 125) == 0.8  # 25 are of no convolution


def test_a_convolution_with_computed_weights_is_none_of_the_layers():
    g = residual()
    w = g.op("Neg", g.random(2, 2, 1, 1, fan_in=2))
    g.nodes[-2].output[0], g.nodes[-1].output[0] = "before", w
    g.op("Conv", "before", w, out="y")
    assert [layer.output for layer in find_layers(built(g), "net")] == ["a", "b", "before"]


def test_an_output_takes_its_rectifiers_place_only_where_that_alone_reads_it():
    found = rectified(built(residual()))
    assert found == {"a": "first"}  # b feeds an Add, y is an output


def test_an_add_is_quantised_when_it_joins_an_int8_convolution_and_feeds_one():
    model = built(residual())
    assert residual_adds(model, {"Conv2", "Conv5"}) == ("Add3",)
    assert residual_adds(model, {"Conv2"}) == ()  # the reader of the sum is in floating point
    assert residual_adds(model, {"Conv5"}) == ()  # both summands are in floating point
    assert residual_adds(model, set()) == ()


def test_int8_layers_are_those_whose_weights_are_quantised():
    model = built(residual())
    layers = find_layers(model, "net")
    ranges = dict.fromkeys(observed_tensors(model, layers), 4.0)
    some = onnx.load_model_from_string(quantise(model.SerializeToString(), "net", ["Conv0", "Conv5"], ranges=ranges))
    assert int8_layers(some) == ("Conv0", "Conv5")
    assert int8_layers(model) == ()
    assert is_quantised(some)
    assert not is_quantised(model)
    with pytest.raises(ModelError, match="net: the graph is already quantised"):
        find_layers(some, "net")


def without_convolutions():
    g = Graph(np.random.default_rng(0))
    g.op("Relu", "x", out="y")
    return built(g, out=("B", 3, 5, 7))


def of_unknown_size():
    return built(residual(), ("B", 3, "H", 7), ("B", 2, "H", 7))


def with_control_flow():
    model = built(residual())
    body = onnx.helper.make_graph([], "body", [], [])
    node = onnx.helper.make_node("If", ["c"], [], then_branch=body, else_branch=body)
    model.graph.node.append(node)
    return model


def of_a_foreign_domain():
    model = built(residual())
    model.graph.node[1].domain = "com.microsoft"
    return model


def with_float16_weights():
    model = built(residual())
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype("float16"), tensor.name))
    return model


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (with_float16_weights, "doesn't support float16 weights; train with the float32 version"),
        (without_convolutions, "the graph has no convolution"),
        (of_unknown_size, "convolution Conv0 has no static size"),
        (with_control_flow, "doesn't support the operators If"),
        (of_a_foreign_domain, r"doesn't support the operators com\.microsoft\.Relu"),
    ],
)
def test_the_error_names_what_the_quantiser_does_not_support(made, said):
    with pytest.raises(ModelError, match=f"net: .*{said}"):
        find_layers(made(), "net")
