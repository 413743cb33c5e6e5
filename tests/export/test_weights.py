"""Conversion of the fp32 graphs to networks: normalised, without loss."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs are read with onnx (extra train)")
from bundles import TINY_SPEC, leak_encoder, vae_encoder
from onnx import TensorProto, helper, numpy_helper

from leakrt.core.bundle import graph_name
from leakrt.core.errors import ModelError
from leakrt.core.weights import Node, from_bytes
from leakrt.export.weights import network_of, weights_file

FILES = {
    graph_name("vae_encoder", "fp32"): vae_encoder(TINY_SPEC),
    graph_name("leak_encoder", "fp32"): leak_encoder(TINY_SPEC, np.zeros((3, 2, 12), np.float32)),
}


def model(nodes, initializers=(), inputs=("image",), shape=("B", 4)):
    def info(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    graph = helper.make_graph(nodes, "g", [info(n) for n in inputs], [info("latent")], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def constant(name, **attribute):
    return helper.make_node("Constant", [], [name], **attribute)


def test_both_graphs_round_trip_with_their_weights_and_operators():
    networks = from_bytes(weights_file(FILES)["weights.safetensors"])
    for stem, network in networks.items():
        graph = onnx.load_model_from_string(FILES[graph_name(stem, "fp32")]).graph
        assert network.input == graph.input[0].name
        assert network.outputs == tuple(o.name for o in graph.output)
        assert [(n.operator, n.inputs, n.outputs) for n in network.nodes] == [
            (n.op_type, tuple(n.input), tuple(n.output)) for n in graph.node
        ]
        for tensor in graph.initializer:
            assert np.array_equal(network.tensors[tensor.name], numpy_helper.to_array(tensor))


def test_attributes_keep_their_kinds():
    attributes = {"strides": [2, 2], "auto_pad": "SAME_UPPER", "group": 1, "alpha": 0.25, "names": ["a", "b"]}
    node = helper.make_node("Relu", ["image"], ["latent"], **attributes)
    (found,) = network_of(model([node]), "g").nodes
    assert found == Node(
        operator="Relu",
        inputs=("image",),
        outputs=("latent",),
        attributes={**attributes, "strides": (2, 2), "names": ("a", "b")},
    )


@pytest.mark.parametrize(
    ("attribute", "wanted"),
    [
        ({"value": numpy_helper.from_array(np.float64([1.5, 2.5]))}, np.float32([1.5, 2.5])),
        ({"value": numpy_helper.from_array(np.int32([3, 4]))}, np.int64([3, 4])),
        ({"value": numpy_helper.from_array(np.array([True, False]))}, np.array([True, False])),
        ({"value_float": 0.5}, np.float32(0.5)),
        ({"value_floats": [0.5, 1.0]}, np.float32([0.5, 1.0])),
        ({"value_int": 7}, np.int64(7)),
        ({"value_ints": [7, 8]}, np.int64([7, 8])),
    ],
    ids=["float64", "int32", "bool", "float", "floats", "int", "ints"],
)
def test_a_constant_becomes_a_tensor_of_one_of_three_types(attribute, wanted):
    network = network_of(model([constant("c", **attribute), helper.make_node("Relu", ["image"], ["latent"])]), "g")
    assert [node.operator for node in network.nodes] == ["Relu"]
    assert network.tensors["c"].dtype == wanted.dtype
    assert np.array_equal(network.tensors["c"], wanted)


def test_a_constant_that_is_not_numeric_is_refused():
    with pytest.raises(ModelError, match="g: constant c is neither a number nor a tensor"):
        network_of(model([constant("c", value_string="text"), helper.make_node("Relu", ["image"], ["latent"])]), "g")


def test_weights_of_an_unsupported_type_are_refused():
    weight = numpy_helper.from_array(np.array([1 + 2j], np.complex64), "w")
    with pytest.raises(ModelError, match="g: w has type complex64; weights are kept as float32, int64, bool"):
        network_of(model([helper.make_node("Mul", ["image", "w"], ["latent"])], [weight]), "g")


def test_omitted_outputs_at_the_end_are_dropped():
    node = helper.make_node("Dropout", ["image"], ["latent", ""])
    assert network_of(model([node]), "g").nodes[0].outputs == ("latent",)


def test_the_value_of_a_filled_shape_becomes_a_number():
    value = numpy_helper.from_array(np.float32([2.5]))
    nodes = [
        helper.make_node("Shape", ["image"], ["s"]),
        helper.make_node("ConstantOfShape", ["s"], ["f"], value=value),
        helper.make_node("Add", ["image", "f"], ["latent"]),
    ]
    assert network_of(model(nodes), "g").nodes[1].attributes == {"value": 2.5}


def test_a_weight_listed_among_the_inputs_is_not_an_input():
    weight = numpy_helper.from_array(np.ones((1, 4), np.float32), "w")
    mul = helper.make_node("Mul", ["image", "w"], ["latent"])
    assert network_of(model([mul], [weight], inputs=("w", "image")), "g").input == "image"


def test_two_inputs_are_refused_by_name():
    add = helper.make_node("Add", ["image", "other"], ["latent"])
    with pytest.raises(ModelError, match=r"g: the graph has the inputs \['image', 'other'\]; exactly one is needed"):
        network_of(model([add], inputs=("image", "other")), "g")


def test_bytes_that_are_not_a_graph_are_reported_with_the_graphs_name():
    with pytest.raises(ModelError, match=r"^leak_encoder: not an ONNX graph"):
        weights_file({**FILES, graph_name("leak_encoder", "fp32"): b"nothing"})
