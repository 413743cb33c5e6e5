"""Every value of the selected tensors is counted once, for any batch size and memory limit."""

import numpy as np
import pytest
from bundles import TINY_SPEC, vae_encoder

pytest.importorskip("onnx")

from leakrt.calibration.int8 import observe
from leakrt.calibration.int8.histogram import MagnitudeHistogram
from leakrt.calibration.int8.observe import Observer
from leakrt.calibration.layers import find_layers
from leakrt.core.errors import DataError, ModelError
from leakrt.core.graphs import vae_encoder_graph
from leakrt.export.graph_io import parse_graph
from leakrt.export.sessions import GraphSession

STEM = "vae_encoder"


@pytest.fixture(scope="module")
def model():
    return parse_graph(vae_encoder(TINY_SPEC, seed=4), STEM)


@pytest.fixture(scope="module")
def tensors(model):
    layers = find_layers(model, STEM)
    return (layers[0].input, *(layer.output for layer in layers), model.graph.output[0].name)


def images(count):
    return np.random.default_rng(0).uniform(-1, 1, (count, 3, 40, 40)).astype(np.float32)


def observed(model, tensors, batches):
    histograms = {name: MagnitudeHistogram() for name in tensors}
    observer = Observer(model, tensors, 1)
    for batch in batches:
        observer.add(batch, histograms)
    return histograms


def test_inputs_inner_tensors_and_outputs_are_counted_whole(model, tensors):
    shown = images(3)
    found = observed(model, tensors, [shown])
    sizes = [3 * 40 * 40, 6 * 20 * 20, 8 * 10 * 10, 4 * 5 * 5, 4 * 5 * 5]
    assert [found[name].total for name in tensors] == [3 * size for size in sizes]
    latents = GraphSession(vae_encoder_graph(TINY_SPEC), model.SerializeToString(), 1).run(shown)[0]
    assert found["latent"].largest == pytest.approx(np.abs(latents).max(), rel=1e-6)
    assert found["image"].largest == np.abs(shown).max()
    assert found[tensors[3]].largest == pytest.approx(2 * found["latent"].largest)  # the graph halves it


def test_a_batch_counts_like_its_rows(model, tensors):
    shown = images(4)
    whole = observed(model, tensors, [shown])
    rows = observed(model, tensors, [shown[i : i + 1] for i in range(4)])
    for name in tensors:
        np.testing.assert_array_equal(whole[name].counts, rows[name].counts)


def test_with_less_memory_the_graph_runs_several_times_and_counts_the_same(model, tensors, monkeypatch):
    whole = observed(model, tensors, [images(2)])
    monkeypatch.setattr(observe, "MAX_OPEN_BYTES", 4 * 6 * 20 * 20 + 1)  # room for the largest only
    observer = Observer(model, tensors, 1)
    assert len(observer._sessions) > 1
    histograms = {name: MagnitudeHistogram() for name in tensors}
    observer.add(images(2), histograms)
    for name in tensors:
        np.testing.assert_array_equal(histograms[name].counts, whole[name].counts)


def test_no_more_than_the_limit_is_open_at_once(model, tensors):
    sizes = observe._sizes(model)
    inner = [name for name in tensors if name != "image"]
    groups = list(observe._groups(inner, sizes))
    assert [name for group in groups for name in group] == inner
    assert all(sum(sizes[n] for n in group) <= observe.MAX_OPEN_BYTES for group in groups)


def test_values_that_are_not_finite_are_an_error(model, tensors):
    broken = images(1)
    broken[0, 1, 3, 3] = np.inf
    with pytest.raises(DataError, match="not finite"):
        observed(model, tensors, [broken])


def test_a_graph_that_does_not_load_or_an_input_that_does_not_fit_is_an_error(model, tensors):
    with pytest.raises(ModelError, match="can't load"):
        Observer(model, ["nowhere"], 1)
    with pytest.raises(ModelError, match="can't run"):
        observed(model, tensors, [np.zeros((1, 5, 40, 40), np.float32)])
