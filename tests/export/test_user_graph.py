"""Names in a user's graph: reserved and shadowing ones are renamed, including subgraphs."""

from __future__ import annotations

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("torch")
from onnx import TensorProto, helper

from leakrt.export.user_graph import separate_names


def value(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def test_a_reserved_name_is_renamed_to_a_free_one():
    nodes = [
        helper.make_node("Relu", ["x"], ["latent"]),
        helper.make_node("Neg", ["latent"], ["latent_inner"]),
        helper.make_node("Add", ["latent", "latent_inner"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [value("x")], [value("y")]))
    separate_names(model, {"x": "image", "y": "unscaled"}, ("image", "latent", "unscaled"))
    assert [list(n.input) + list(n.output) for n in model.graph.node] == [
        ["image", "latent_inner_2"],
        ["latent_inner_2", "latent_inner"],
        ["latent_inner_2", "latent_inner", "unscaled"],
    ]


def test_a_name_that_shadows_an_outer_one_is_renamed():
    inner = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["z"])]
    branch = helper.make_graph(inner, "branch", [], [value("z")])
    plain = helper.make_graph([helper.make_node("Neg", ["a"], ["z"])], "plain", [], [value("z")])
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("If", ["k"], ["y"], then_branch=branch, else_branch=plain),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [value("x")], [value("y")]))
    separate_names(model, {"x": "image"}, ("image",))
    graphs = {attribute.name: attribute.g for attribute in model.graph.node[1].attribute}
    assert [list(n.input) + list(n.output) for n in graphs["then_branch"].node] == [
        ["image", "a_inner"],
        ["a_inner", "z"],
    ]
    assert list(graphs["else_branch"].node[0].input) == ["a"]


def test_omitted_outputs_are_dropped_at_the_end_and_named_elsewhere():
    node = helper.make_node("LSTM", ["x", "w", "r"], ["", "state", ""], hidden_size=1)
    model = helper.make_model(helper.make_graph([node], "g", [value("x")], [value("state")]))
    separate_names(model, {}, ())
    assert list(model.graph.node[0].output) == ["unused_inner", "state"]
