"""ModelOpt's placement written into the bundle's own graph. What needs ModelOpt itself skips where it is missing."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from bundles import TINY_SPEC, leak_encoder, vae_encoder

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
from leakrt.calibration import modelopt
from leakrt.calibration.layers import find_layers, int8_layers
from leakrt.calibration.modelopt import NEEDED, Site, modelopt_quantise, modelopt_tensors
from leakrt.core.errors import MissingExtraError, ModelError
from leakrt.core.graphs import vae_encoder_graph
from leakrt.export.graph_io import parse_graph
from leakrt.export.sessions import GraphRunner

INSTALLED = all(importlib.util.find_spec(module) for module in NEEDED)
NEEDS_IT = pytest.mark.skipif(not INSTALLED, reason="ModelOpt is not installed: pip install 'leakrt[modelopt]'")
needs_it = [NEEDS_IT, pytest.mark.slow]  # its process imports torch


@pytest.fixture(scope="module")
def model():
    return vae_encoder(TINY_SPEC, seed=3)


@pytest.fixture
def inputs_of_convolutions(monkeypatch):
    """What ModelOpt gives for a plain chain, without its process."""

    def place(model, quantised):
        return [Site(n.name, i) for n in model.graph.node if n.name in quantised for i in (0, 1)]

    monkeypatch.setattr(modelopt, "_place", place)


def layers_of(model):
    return find_layers(parse_graph(model, "vae_encoder"), "vae_encoder")


def quantised(model, names, bits=7):
    parsed = parse_graph(model, "vae_encoder")
    ranges = dict.fromkeys(modelopt_tensors(parsed, layers_of(model)), 8.0)
    return modelopt_quantise(model, "vae_encoder", names, ranges, bits)


def error_of(model, found):
    spec, image = vae_encoder_graph(TINY_SPEC), np.random.default_rng(0).uniform(-1, 1, (3, 3, 40, 40))
    exact, rounded = (GraphRunner(spec, g, 1, False).run(image.astype(np.float32))[0] for g in (model, found))
    return np.sqrt(((exact - rounded) ** 2).mean()) / exact.std()


@pytest.mark.parametrize(("bits", "largest"), [(7, 64), (8, 127)])
def test_weights_take_their_bits_with_a_scale_for_each_output_channel(model, inputs_of_convolutions, bits, largest):
    names = [layer.name for layer in layers_of(model)]
    graph = onnx.load_model_from_string(quantised(model, names, bits)).graph
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] in constants]
    assert len(weights) == len(names)
    for node in weights:
        scale = constants[node.input[1]]
        codes = np.rint(constants[node.input[0]] / scale.reshape(-1, 1, 1, 1))
        assert np.abs(codes).reshape(len(scale), -1).max(1).tolist() == [largest] * len(scale)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not constants[node.input[2]].any()
            assert constants[node.input[2]].dtype == np.int8


def test_the_graph_keeps_its_opset_and_gives_nearly_what_the_float_graph_gives(model, inputs_of_convolutions):
    found = quantised(model, [layer.name for layer in layers_of(model)])
    assert [o.version for o in onnx.load_model_from_string(found).opset_import] == [17]
    assert 0 < error_of(model, found) < 0.1


def test_layers_that_are_not_named_stay_float(model, inputs_of_convolutions):
    name = layers_of(model)[1].name
    assert int8_layers(onnx.load_model_from_string(quantised(model, [name]))) == (name,)
    assert modelopt_quantise(model, "vae_encoder", [], {}) == model


def test_a_missing_range_and_an_unknown_layer_are_named(model, inputs_of_convolutions):
    with pytest.raises(ModelError, match="no range was collected for image"):
        modelopt_quantise(model, "vae_encoder", [layers_of(model)[0].name], {})
    with pytest.raises(ModelError, match="no convolution nowhere"):
        modelopt_quantise(model, "vae_encoder", ["nowhere"], {})


def test_without_the_extra_its_command_is_told_before_anything_runs(model, monkeypatch):
    monkeypatch.setattr(modelopt, "NEEDED", ("nowhere_to_be_found",))
    with pytest.raises(MissingExtraError, match=r"needs nowhere_to_be_found; .* pip install 'leakrt\[modelopt\]'"):
        modelopt_tensors(parse_graph(model, "vae_encoder"), layers_of(model))


def test_a_process_that_fails_is_one_line_with_its_last_one(model, monkeypatch):
    monkeypatch.setattr(modelopt, "NEEDED", ())
    monkeypatch.setattr(modelopt, "_PROCESS", ("-c", "raise ValueError('no such graph')"))
    with pytest.raises(ModelError, match=r"ModelOpt can't treat the graph \(ValueError: no such graph\)") as error:
        quantised(model, [layers_of(model)[0].name])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("stem", [pytest.param(s, marks=needs_it) for s in ("vae_encoder", "leak_encoder")])
def test_modelopt_itself_places_pairs_at_convolutions_and_nowhere_in_gates_attention_and_head(stem):
    prototypes = np.random.default_rng(2).standard_normal((3, 2, 12)).astype(np.float32)
    wide = (16, 24)  # it leaves narrow convolutions alone
    graph = vae_encoder(TINY_SPEC, 3, wide) if stem == "vae_encoder" else leak_encoder(TINY_SPEC, prototypes, 1, wide)
    parsed = parse_graph(graph, stem)
    layers = find_layers(parsed, stem)
    ranges = dict.fromkeys(modelopt_tensors(parsed, layers), 8.0)
    found = onnx.load_model_from_string(modelopt_quantise(graph, stem, [n.name for n in layers], ranges))
    back = {n.output[0] for n in found.graph.node if n.op_type == "DequantizeLinear"}
    readers = {n.op_type for n in found.graph.node if back & set(n.input)}
    assert "Conv" in readers
    assert readers <= {"Conv", "Add"}
    assert layers[1].name in int8_layers(found)
