"""The simulation of float16 has the same bits as rounding by hand."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs are converted with onnx (extra train)")
from bundles import Graph

from leakrt.calibration.fp16.rounding import largest_values, rounded
from leakrt.core.errors import ModelError
from leakrt.core.graphs import GraphSpec, TensorSpec
from leakrt.export.graph_io import parse_graph
from leakrt.export.sessions import GraphSession

RNG = np.random.default_rng(5)
SPEC = GraphSpec("g", TensorSpec("image", (7,)), (TensorSpec("latent", (7,)),))
FACTOR, OFFSET = np.float32([1.2345678]), np.float32([0.3333333])


def half(value):
    return np.asarray(value, np.float32).astype(np.float16).astype(np.float32)


@pytest.fixture
def graph():
    """latent = (image x FACTOR) + OFFSET, by two nodes."""
    g = Graph(RNG)
    g.op("Add", g.op("Mul", "image", g.weight(FACTOR)), g.weight(OFFSET), out="latent")
    return parse_graph(g.build({"image": ["B", 7]}, {"latent": ["B", 7]}), "g")


@pytest.fixture
def image():
    return RNG.uniform(-9, 9, (5, 7)).astype(np.float32)


def run(model, image):
    return GraphSession(SPEC, model, 1).run(image)[0]


def test_inputs_weights_and_outputs_of_every_node_are_rounded(graph, image):
    product = half(half(image) * half(FACTOR))
    assert np.array_equal(run(rounded(graph, []), image), half(product + half(OFFSET)))


def test_an_island_reads_what_was_rounded_before_it_and_is_exact_itself(graph, image):
    first, second = (node.name for node in graph.graph.node)
    assert np.array_equal(run(rounded(graph, [first]), image), half(half(image * FACTOR) + half(OFFSET)))
    assert np.array_equal(run(rounded(graph, [second]), image), half(half(image) * half(FACTOR)) + OFFSET)


def test_a_graph_of_islands_only_is_the_original_graph(graph, image):
    everything = [node.name for node in graph.graph.node]
    assert np.array_equal(run(rounded(graph, everything), image), image * FACTOR + OFFSET)


def test_the_original_graph_does_not_change(graph):
    before = graph.SerializeToString()
    rounded(graph, [])
    largest_values(graph, SPEC, [np.ones((1, 7), np.float32)], threads=1)
    assert graph.SerializeToString() == before


def test_values_beyond_float16_become_infinite(graph):
    assert np.isinf(run(rounded(graph, []), np.full((1, 7), 6e4, np.float32))).all()
    assert np.isfinite(run(rounded(graph, [n.name for n in graph.graph.node]), np.full((1, 7), 6e4, np.float32))).all()


def test_integers_do_not_change(image):
    g = Graph(RNG)
    g.op("Reshape", g.op("Relu", "image"), g.weight(np.int64([-1, 7])), out="latent")
    parsed = parse_graph(g.build({"image": ["B", 7]}, {"latent": ["B", 7]}), "g")
    assert np.array_equal(run(rounded(parsed, []), image), half(np.maximum(half(image), 0)))


def test_a_value_that_two_nodes_read_is_rounded_once():
    g = Graph(RNG)
    g.op("Mul", g.op("Relu", "image"), g.op("Abs", "image"), out="latent")
    parsed = parse_graph(g.build({"image": ["B", 7]}, {"latent": ["B", 7]}), "g")
    casts = [n.input[0] for n in onnx.load_model_from_string(rounded(parsed, [])).graph.node if n.op_type == "Cast"]
    assert casts.count("image") == 1


def test_the_largest_magnitude_of_each_tensor_is_that_of_all_inputs(graph):
    inputs = [np.full((1, 7), value, np.float32) for value in (1.0, -8.0, 2.0)]
    found = largest_values(graph, SPEC, inputs, threads=1)
    assert found == {"t0": np.float32(8.0) * FACTOR[0], "latent": abs(np.float32(-8.0) * FACTOR[0] + OFFSET[0])}


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
def test_values_that_are_not_finite_count_as_infinite(graph, value):
    assert largest_values(graph, SPEC, [np.full((1, 7), value, np.float32)], threads=1)["t0"] == np.inf


def test_an_input_of_another_shape_is_refused(graph):
    with pytest.raises(ModelError, match=r"^g: ONNX Runtime can't run it"):
        largest_values(graph, SPEC, [np.ones((1, 8), np.float32)], threads=1)
