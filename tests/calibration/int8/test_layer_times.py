"""The time of every kernel counts for its layer."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import TINY_SPEC, vae_encoder

from leakrt.calibration.int8.layer_times import layer_times
from leakrt.calibration.int8.qdq import observed_tensors, quantise
from leakrt.calibration.layers import find_layers

pytest.importorskip("onnx")
from leakrt.core.errors import ModelError
from leakrt.export.graph_io import parse_graph


@pytest.fixture(scope="module")
def model():
    return vae_encoder(TINY_SPEC, seed=0, widths=(48, 64))


def test_each_layer_takes_time_at_both_precisions_and_little_is_left_over(model):
    parsed = parse_graph(model, "vae_encoder")
    layers = find_layers(parsed, "vae_encoder")
    ranges = dict.fromkeys(observed_tensors(parsed, layers), 4.0)
    quantised = quantise(model, "vae_encoder", [layer.name for layer in layers], ranges=ranges)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 40, 40)).astype(np.float32)
    for graph in (model, quantised):
        times = layer_times(graph, "vae_encoder", layers, value=image, threads=1)
        assert set(times) == {*(layer.name for layer in layers), ""}
        assert all(times[layer.name] > 0 for layer in layers)
        assert times[""] < sum(times.values())


def test_bytes_that_are_no_graph_are_refused():
    with pytest.raises(ModelError, match="not an ONNX graph"):
        layer_times(b"\x08nonsense", "vae_encoder", (), value=np.zeros((1, 3, 40, 40), np.float32), threads=1)
