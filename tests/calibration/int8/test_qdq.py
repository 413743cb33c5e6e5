import numpy as np
import pytest
from bundles import TINY_SPEC, vae_encoder

from leakrt.calibration.int8.qdq import observed_tensors, quantise
from leakrt.calibration.layers import find_layers
from leakrt.core.errors import ModelError
from leakrt.core.graphs import vae_encoder_graph

pytest.importorskip("onnx")
from leakrt.export.graph_io import parse_graph
from leakrt.export.sessions import GraphSession


@pytest.fixture(scope="module")
def model():
    return vae_encoder(TINY_SPEC, seed=3)


def generous(model):
    parsed = parse_graph(model, "vae_encoder")
    layers = find_layers(parsed, "vae_encoder")
    return layers, dict.fromkeys(observed_tensors(parsed, layers), 8.0)


def test_all_weights_take_seven_bits_and_biases_and_zero_points_stay_symmetric(model):
    import onnx

    layers, ranges = generous(model)
    graph = onnx.load_model_from_string(quantise(model, "vae_encoder", [n.name for n in layers], ranges=ranges)).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in constants]
    assert len(weights) == len(layers)
    for node in weights:
        scale = constants[node.input[1]]
        assert scale.shape == (constants[node.input[0]].shape[0],)  # one for each output channel
        codes = np.rint(constants[node.input[0]] / scale.reshape(-1, 1, 1, 1))
        assert np.abs(codes).max() == 64
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not constants[node.input[2]].any()
            assert constants[node.input[2]].dtype == np.int8


def test_the_quantised_graph_gives_nearly_what_the_float_graph_gives(model):
    layers, ranges = generous(model)
    quantised = quantise(model, "vae_encoder", [n.name for n in layers], ranges=ranges)
    image = np.random.default_rng(0).uniform(-1, 1, (3, 3, 40, 40)).astype(np.float32)
    spec = vae_encoder_graph(TINY_SPEC)
    exact, found = (GraphSession(spec, g, 1).run(image)[0] for g in (model, quantised))
    error = np.sqrt(((exact - found) ** 2).mean()) / exact.std()
    assert 0 < error < 0.1


def test_optimised_and_plain_execution_agree_since_seven_bits_never_saturate(model):
    layers, ranges = generous(model)
    quantised = quantise(model, "vae_encoder", [n.name for n in layers], ranges=ranges)
    image = np.random.default_rng(1).uniform(-1, 1, (2, 3, 40, 40)).astype(np.float32)
    spec = vae_encoder_graph(TINY_SPEC)
    fast, plain = (GraphSession(spec, quantised, 1, optimised=o).run(image)[0] for o in (True, False))
    assert np.abs(fast - plain).max() < 0.1 * plain.std()


def test_layers_that_are_not_named_stay_float(model):
    layers, ranges = generous(model)
    some = quantise(model, "vae_encoder", [layers[1].name], ranges=ranges)
    parsed = parse_graph(some, "vae_encoder")
    producers = {o: n.op_type for n in parsed.graph.node for o in n.output}
    reads = {n.name: producers.get(n.input[1]) for n in parsed.graph.node if n.op_type == "Conv"}
    assert reads == {n.name: "DequantizeLinear" if n is layers[1] else None for n in layers}


def test_a_quantised_graph_is_not_quantised_again(model):
    layers, ranges = generous(model)
    quantised = quantise(model, "vae_encoder", [layers[0].name], ranges=ranges)
    with pytest.raises(ModelError, match="already quantised"):
        quantise(quantised, "vae_encoder", [layers[0].name], ranges=ranges)


def test_a_missing_range_and_an_unknown_layer_are_named(model):
    layers, _ = generous(model)
    with pytest.raises(ModelError, match="no range was collected for image"):
        quantise(model, "vae_encoder", [layers[0].name], ranges={})
    with pytest.raises(ModelError, match="the graph has no convolution nowhere"):
        quantise(model, "vae_encoder", ["nowhere"], ranges={})


def test_bytes_that_are_no_graph_are_refused():
    with pytest.raises(ModelError, match="not an ONNX graph"):
        quantise(b"\x08nonsense", "vae_encoder", ["x"], ranges={})
