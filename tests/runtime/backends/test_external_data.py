"""External weights are detected wherever ONNX can contain a tensor."""

from __future__ import annotations

import pytest

from leakrt.core.bundle import Bundle
from leakrt.core.errors import ModelError
from leakrt.runtime.backends.external_data import refuse_external_data

onnx = pytest.importorskip("onnx")


def outside(name="w"):
    return onnx.TensorProto(name=name, dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)


def model_of(*nodes, initializers=()):
    graph = onnx.helper.make_graph(list(nodes), "g", [], [], list(initializers))
    return onnx.helper.make_model(graph)


def nested(tensor):
    body = onnx.helper.make_graph([], "body", [], [], [tensor])
    return onnx.helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)


def places():
    constant = onnx.helper.make_node("Constant", [], ["y"], value=outside())
    many = onnx.helper.make_node("Anything", [], ["y"], values=[outside()])
    sparse = onnx.SparseTensorProto(values=outside(), dims=[1])
    in_function = model_of()
    in_function.functions.append(onnx.helper.make_function("d", "f", [], ["y"], [constant], []))
    in_sparse = model_of()
    in_sparse.graph.sparse_initializer.append(sparse)
    return {
        "initializer": model_of(initializers=[outside()]),
        "constant": model_of(constant),
        "list": model_of(many),
        "subgraph": model_of(nested(outside())),
        "function": in_function,
        "sparse": in_sparse,
    }


@pytest.mark.parametrize("place", list(places()))
def test_external_weights_are_refused_everywhere(place):
    with pytest.raises(ModelError, match=r"^vae_encoder: the graph has external weights"):
        refuse_external_data(places()[place].SerializeToString(), "vae_encoder")


def test_a_graph_with_internal_weights_passes(tiny):
    for stem in ("vae_encoder", "leak_encoder"):
        data = Bundle(tiny).graph(stem, "fp32")
        assert sum(len(tensor.raw_data) for tensor in onnx.load_model_from_string(data).graph.initializer) > 1000
        refuse_external_data(data, stem)


def test_every_truncation_of_a_graph_passes_or_is_refused_in_one_line(tiny):
    data, refused = Bundle(tiny).graph("vae_encoder", "fp32"), []
    for end in range(len(data)):
        try:
            refuse_external_data(data[:end], "vae_encoder")
        except ModelError as error:
            refused.append(str(error))
    assert len(refused) > len(data) // 2
    assert not any("\n" in message for message in refused)


def test_too_deeply_nested_graphs_are_refused():
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    for _ in range(25):
        node = onnx.helper.make_node("If", ["c"], ["y"], then_branch=onnx.helper.make_graph([node], "g", [], []))
    with pytest.raises(ModelError, match="subgraphs nested too deeply"):
        refuse_external_data(model_of(node).SerializeToString(), "vae_encoder")
