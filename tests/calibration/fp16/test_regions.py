"""Regions and their cost."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx", reason="graphs are drawn with onnx")
from bundles import TINY_SPEC, Graph, leak_encoder, vae_encoder

from leakrt.calibration.fp16.regions import find_regions, half_share
from leakrt.calibration.layers import MULTIPLIERS, multiplications
from leakrt.export.graph_io import parse_graph

PROTOTYPES = np.zeros((3, 2, 12), np.float32)


@pytest.fixture(params=["vae_encoder", "leak_encoder"])
def parsed(request):
    model = vae_encoder(TINY_SPEC) if request.param == "vae_encoder" else leak_encoder(TINY_SPEC, PROTOTYPES)
    return parse_graph(model, request.param)


def test_layers_cut_the_graph_into_pieces_that_hold_every_node_once(parsed):
    layers = [r for r in find_regions(parsed, "g") if not r.name.startswith("every ")]
    nodes = [n for region in layers for n in region.nodes]
    assert sorted(nodes) == sorted(n.name for n in parsed.graph.node)
    assert [r.name for r in layers] == [n.name for n in parsed.graph.node if n.op_type in MULTIPLIERS]
    assert sum(r.share for r in layers) == pytest.approx(1.0)


def test_operators_that_do_not_multiply_cost_nothing(parsed):
    others = [r for r in find_regions(parsed, "g") if r.name.startswith("every ")]
    assert {r.name for r in others} == {f"every {n.op_type}" for n in parsed.graph.node if n.op_type not in MULTIPLIERS}
    assert {r.share for r in others} == {0.0}


def test_multiplications_are_counted_for_one_image():
    parsed = parse_graph(vae_encoder(TINY_SPEC), "g")
    assert list(multiplications(parsed).values()) == [20 * 20 * 6 * 27, 10 * 10 * 8 * 6 * 9, 5 * 5 * 4 * 8 * 9]


def test_transposed_convolutions_and_products_are_counted_by_their_inputs():
    g = Graph(np.random.default_rng(0))
    up = g.op("ConvTranspose", "image", g.random(2, 5, 3, 3, fan_in=9), strides=[2, 2])
    flat = g.op("Reshape", up, g.weight(np.int64([0, 5 * 9 * 9])))
    g.op("Gemm", g.linear(flat, 405, 7), g.random(3, 7, fan_in=7), out="latent", transB=1)
    parsed = parse_graph(g.build({"image": ["B", 2, 4, 4]}, {"latent": ["B", 3]}), "g")
    assert list(multiplications(parsed).values()) == [2 * 4 * 4 * 5 * 9, 405 * 7, 7 * 3]


def test_the_half_share_is_that_of_nodes_outside_the_islands():
    assert half_share({"a": 30, "b": 70}, {"b", "x"}) == 0.3
    assert half_share({"a": 30, "b": 70}, ()) == 1.0
    assert half_share({}, {"x"}) == 1.0
