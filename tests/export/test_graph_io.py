"""Parsing of a bundle's graph: unique node names and known float32 tensors."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs are read with onnx (extra train)")
from bundles import TINY_SPEC, Graph, leak_encoder, vae_encoder

from leakrt.core.errors import ModelError
from leakrt.export.graph_io import float_tensors, name_nodes, parse_graph

PROTOTYPES = np.zeros((3, 2, 12), np.float32)


def test_every_node_gets_a_unique_name():
    parsed = parse_graph(leak_encoder(TINY_SPEC, PROTOTYPES), "leak_encoder")
    names = [node.name for node in parsed.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


def test_names_are_kept_and_the_second_of_two_equal_names_changes():
    g = Graph(np.random.default_rng(0))
    g.op("Relu", g.op("Relu", g.op("Relu", "image")), out="latent")
    model = onnx.load_model_from_string(g.build({"image": ["B", 2]}, {"latent": ["B", 2]}))
    for node, name in zip(model.graph.node, ("first", "first", ""), strict=True):
        node.name = name
    name_nodes(model)
    assert [node.name for node in model.graph.node] == ["first", "Relu_1", "Relu_2"]
    name_nodes(model)
    assert [node.name for node in model.graph.node] == ["first", "Relu_1", "Relu_2"]


def test_inner_shapes_are_inferred():
    parsed = parse_graph(vae_encoder(TINY_SPEC), "vae_encoder")
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim][1:] for v in parsed.graph.value_info}
    assert shapes["t0"] == [6, 20, 20]
    assert shapes["t2"] == [8, 10, 10]


def test_float_tensors_include_inputs_inner_tensors_and_outputs_but_no_integers():
    g = Graph(np.random.default_rng(0))
    shape = g.op("Shape", "image", out="sizes")
    g.op("Reshape", g.op("Relu", "image", out="inner"), shape, out="latent")
    parsed = parse_graph(g.build({"image": ["B", 7]}, {"latent": ["B", 7]}), "g")
    assert float_tensors(parsed) == {"image", "inner", "latent"}


@pytest.mark.parametrize("data", [b"", b"\x00\x01", b"{}", b"\xff" * 64], ids=["nothing", "zeros", "JSON", "ones"])
def test_bytes_that_are_not_a_graph_are_refused_by_name(data):
    with pytest.raises(
        ModelError, match=r"^vae_encoder\.fp16\.onnx: not an ONNX graph \(.*\); export the bundle again$"
    ):
        parse_graph(data, "vae_encoder.fp16.onnx")
