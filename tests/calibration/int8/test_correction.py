"""A corrected graph is closer to the float graph than a rounded one, for all kinds of convolutions."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import TINY_SPEC, Graph, noise_image, vae_encoder

from leakrt.calibration.int8.correction import correct
from leakrt.calibration.int8.qdq import observed_tensors, quantise
from leakrt.calibration.layers import find_layers
from leakrt.core.progress import silent

onnx = pytest.importorskip("onnx")
from leakrt.export.graph_io import parse_graph
from leakrt.export.sessions import open_session


def run(model, value):
    session = open_session("g", model, 1, optimised=False)
    return session.run(None, {session.get_inputs()[0].name: value})[0]


def images(count, seed):
    """Smooth images: the rounding error of white noise is white noise, which can't be corrected."""
    pixels = [noise_image(1000 * seed + i, size=64)[:40, :40] for i in range(count)]
    return [np.ascontiguousarray(p.transpose(2, 0, 1)[None] / 127.5 - 1.0, np.float32) for p in pixels]


def rounded(model, spread, names=None):
    """Quantise with ranges that are too wide (rounding errors) or too narrow (clipping errors)."""
    parsed = parse_graph(model, "vae_encoder")
    layers = find_layers(parsed, "vae_encoder")
    ranges = dict.fromkeys(observed_tensors(parsed, layers), spread)
    return quantise(model, "vae_encoder", names or [layer.name for layer in layers], ranges=ranges)


def error(model, other):
    wanted, found = (np.concatenate([run(m, x) for x in images(6, 99)]) for m in (model, other))
    return np.sqrt(((wanted - found) ** 2).mean()) / wanted.std()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_on_images_it_has_not_seen_the_error_falls(seed):
    model = vae_encoder(TINY_SPEC, seed=seed)
    plain = rounded(model, 60.0)
    assert error(
        model, correct(model, plain, "vae_encoder", inputs=images(16, seed), threads=1, progress=silent)
    ) < 0.9 * error(model, plain)


def test_biases_absorb_the_shift_of_clipping():
    model = vae_encoder(TINY_SPEC, seed=5)
    first = [layer.name for layer in find_layers(parse_graph(model, "vae_encoder"), "vae_encoder")][:2]
    plain = rounded(model, 0.7, first)
    corrected = correct(model, plain, "vae_encoder", inputs=images(16, 1), threads=1, progress=silent)

    def shift(other):
        wanted, found = (np.concatenate([run(m, x) for x in images(8, 7)]).mean((0, 2, 3)) for m in (model, other))
        return np.abs(wanted - found).max()

    assert shift(corrected) < 0.5 * shift(plain)


def test_layers_behind_a_quantised_one_are_corrected_in_floating_point():
    model = vae_encoder(TINY_SPEC, seed=3)
    first = find_layers(parse_graph(model, "vae_encoder"), "vae_encoder")[0].name
    plain = rounded(model, 0.7, [first])
    assert error(
        model, correct(model, plain, "vae_encoder", inputs=images(16, 2), threads=1, progress=silent)
    ) < 0.9 * error(model, plain)


def test_without_rounding_nothing_changes():
    model = vae_encoder(TINY_SPEC, seed=4)
    assert error(model, correct(model, model, "vae_encoder", inputs=images(16, 3), threads=1, progress=silent)) < 1e-4


def test_the_same_images_give_the_same_bytes():
    model = vae_encoder(TINY_SPEC, seed=6)
    first, second = (
        correct(model, rounded(model, 20.0), "vae_encoder", inputs=images(8, 4), threads=1, progress=silent)
        for _ in range(2)
    )
    assert first == second


def test_weights_still_take_seven_bits_and_the_graph_is_valid():
    model = vae_encoder(TINY_SPEC, seed=7)
    graph = onnx.load_model_from_string(
        correct(model, rounded(model, 20.0), "vae_encoder", inputs=images(8, 5), threads=1, progress=silent)
    )
    onnx.checker.check_model(graph, full_check=True)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    pairs = [n for n in graph.graph.node if n.op_type == "QuantizeLinear" and n.input[0] in constants]
    assert len(pairs) == 3
    for node in pairs:
        codes = constants[node.input[0]] / constants[node.input[1]].reshape(-1, 1, 1, 1)
        assert np.abs(codes).max() == pytest.approx(64, rel=1e-5)


def test_a_grouped_convolution_is_not_changed():
    g = Graph(np.random.default_rng(0))
    x = g.conv("image", 3, 6, kernel=3, stride=2)
    weight = g.random(6, 3, 3, 3, fan_in=27)
    x = g.op("Conv", g.op("Relu", x), weight, group=2, strides=[2, 2], pads=[1, 1, 1, 1])
    g.conv(x, 6, 4, kernel=3, stride=2, out="latent")
    model = g.build({"image": ["B", 3, 40, 40]}, {"latent": ["B", 4, 5, 5]})
    corrected = onnx.load_model_from_string(
        correct(model, rounded(model, 30.0), "vae_encoder", inputs=images(8, 6), threads=1, progress=silent)
    )
    before = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_model_from_string(model).graph.initializer}
    after = {t.name: onnx.numpy_helper.to_array(t) for t in corrected.graph.initializer}
    np.testing.assert_array_equal(before[weight], after[weight])
    assert sum(not np.array_equal(before[k], after[k]) for k in before) == 2
