"""Nodes of a user's model: order, dependencies of an output, and refused operators."""

from __future__ import annotations

import pytest

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper

from leakrt.core.errors import ModelError
from leakrt.train.onnx_nodes import check_choices, check_operators, encoder_of, sort_nodes


def model_of(nodes, outputs=("y",), opset=17, weights=()):
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", *outputs)]
    graph = helper.make_graph(list(nodes), "g", values[:1], values[1:], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def node(kind, inputs, output, **attributes):
    return helper.make_node(kind, list(inputs), [output], **attributes)


def kinds(model):
    return [n.op_type for n in model.graph.node]


def test_sorted_nodes_do_not_change():
    model = model_of([node("Relu", "x", "a"), node("Neg", "x", "b"), node("Add", "ab", "y")])
    assert not sort_nodes(model.graph, "f")
    assert kinds(model) == ["Relu", "Neg", "Add"]


def test_nodes_out_of_order_are_sorted():
    model = model_of([node("Add", "ab", "y"), node("Neg", "a", "b"), node("Relu", "x", "a")])
    assert sort_nodes(model.graph, "f")
    assert kinds(model) == ["Relu", "Neg", "Add"]


def test_an_if_comes_after_the_inputs_of_its_branches():
    branch = helper.make_graph([node("Neg", "a", "z")], "branch", [], [helper.make_empty_tensor_value_info("z")])
    model = model_of([node("If", "k", "y", then_branch=branch, else_branch=branch), node("Relu", "x", "a")])
    assert sort_nodes(model.graph, "f")
    assert kinds(model) == ["Relu", "If"]


def test_a_cycle_of_nodes_is_refused():
    with pytest.raises(ModelError, match=r"f: its nodes form a cycle \(Neg, Relu\)"):
        sort_nodes(model_of([node("Neg", "a", "y"), node("Relu", "y", "a")]).graph, "f")


def test_only_what_an_output_needs_is_kept():
    model = model_of([node("Relu", "x", "y"), node("RandomNormalLike", "x", "r"), node("Neg", "r", "s")], ("y", "s"))
    kept = encoder_of(model, "y", "f")
    assert kinds(kept) == ["Relu"]
    assert [value.name for value in kept.graph.output] == ["y"]
    check_operators(kept, "f")
    with pytest.raises(ModelError, match="draws random numbers"):
        check_operators(encoder_of(model, "s", "f"), "f")
    assert len(model.graph.node) == 3


@pytest.mark.parametrize(
    ("opset", "is_test", "refused"), [(6, 0, True), (6, 1, False), (7, None, False), (11, None, False)]
)
def test_a_dropout_of_an_old_opset_is_random_by_its_attribute(opset, is_test, refused):
    attributes = {} if is_test is None else {"is_test": is_test}
    model = model_of([node("Dropout", "x", "y", **attributes)], opset=opset)
    if refused:
        with pytest.raises(ModelError, match="Dropout in training mode"):
            check_operators(model, "f")
    else:
        check_operators(model, "f")


@pytest.mark.parametrize("through", ["a constant", "an outer scope"])
def test_a_dropout_whose_mode_is_a_constant_false_is_not_random(through):
    off = onnx.numpy_helper.from_array(onnx.numpy_helper.np.array(False), "k")
    drop = helper.make_node("Dropout", ["x", "", "k"], ["y"])
    if through == "a constant":
        return check_operators(model_of([helper.make_node("Constant", [], ["k"], value=off), drop]), "f")
    branch = helper.make_graph([drop], "branch", [], [helper.make_empty_tensor_value_info("y")])
    nodes = [node("If", "c", "y", then_branch=branch, else_branch=branch)]
    return check_operators(model_of(nodes, weights=[off]), "f")


def test_an_if_may_choose_by_shape_but_not_by_pixels():
    branch = helper.make_graph([node("Neg", "x", "z")], "branch", [], [helper.make_empty_tensor_value_info("z")])
    chosen = node("If", "k", "y", then_branch=branch, else_branch=branch)
    check_choices(model_of([node("Shape", "x", "s"), node("Cast", "s", "k", to=9), chosen]), "x", "f")
    with pytest.raises(ModelError, match=r"f has control flow that depends on pixel values \(If\)"):
        check_choices(model_of([node("Abs", "x", "s"), node("Cast", "s", "k", to=9), chosen]), "x", "f")
