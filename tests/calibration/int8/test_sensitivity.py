"""Sensitivity of single layers, and the order in which layers return to floating point."""

import numpy as np
import pytest
from bundles import TINY_SPEC, leak_encoder, vae_encoder

pytest.importorskip("torch")
pytest.importorskip("onnx")

from leakrt.calibration.int8.qdq import observed_tensors
from leakrt.calibration.int8.sensitivity import RUNGS, LayerSensitivity, measure_layers, rungs
from leakrt.calibration.layers import Layer, find_layers, int8_share
from leakrt.core.acceptance import MIN_INT8_SHARE
from leakrt.core.progress import silent
from leakrt.export.graph_io import parse_graph


def measured(coarse=(), wide=1.0):
    """Sensitivities with fitting ranges, except `wide` times larger ones for the inputs of the layers in `coarse`."""
    vae = vae_encoder(TINY_SPEC, seed=2)
    parsed = parse_graph(vae, "vae_encoder")
    layers = find_layers(parsed, "vae_encoder")
    ranges = dict.fromkeys(observed_tensors(parsed, layers), 4.0)
    for index in coarse:
        ranges[layers[index].input] *= wide
    shape = (len(TINY_SPEC.class_names), TINY_SPEC.prototypes_per_class, TINY_SPEC.embedding_dim)
    leak = leak_encoder(TINY_SPEC, np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    shown = list(np.random.default_rng(1).uniform(-1, 1, (6, 3, 40, 40)).astype(np.float32))
    return layers, measure_layers(
        vae, leak, TINY_SPEC, layers=layers, ranges=ranges, images=shown, weight_bits=7, threads=1, progress=silent
    )


def test_every_layer_is_measured_in_the_order_of_the_graph_and_shares_add_up():
    layers, found = measured()
    assert tuple(s.layer for s in found) == layers
    assert sum(s.share for s in found) == pytest.approx(1.0)
    assert all(0 < s.latent_error < 0.2 for s in found)
    assert all(s.score_error > 0 for s in found)
    assert all(0 <= s.labels_moved <= 1 for s in found)


def test_a_layer_whose_range_is_far_too_wide_stands_out_and_the_others_stay():
    fine, coarse = measured()[1], measured(coarse=[1], wide=60.0)[1]
    assert coarse[1].latent_error > 5 * fine[1].latent_error
    assert coarse[1].score_error > 2 * fine[1].score_error
    assert coarse[2].latent_error == fine[2].latent_error


def sensitivity(name, multiplications, score_error, total):
    layer = Layer(name=name, input=f"{name}.in", output=f"{name}.out", multiplications=multiplications)
    return LayerSensitivity(
        layer=layer, share=multiplications / total, latent_error=0.0, score_error=score_error, labels_moved=0.0
    )


def chain(**errors):
    """Layers of equal work, named with their score errors."""
    return [sensitivity(name, 10, error, 10 * len(errors)) for name, error in errors.items()]


def test_layers_return_in_the_order_of_their_error_until_four_fifths_are_left():
    errors = {f"c{i:02d}": float(i == 7) + 0.5 * (i == 3) + 0.25 * (i == 12) + 0.01 for i in range(20)}
    found = rungs(chain(**errors), 200)
    gone = [sorted(errors.keys() - set(names)) for names in found]
    assert gone[0] == ["c07"]
    assert gone[1] == ["c03", "c07"]
    assert gone[2] == ["c03", "c07", "c12"]
    assert len(gone[3]) == 4
    assert [len(names) / 20 for names in found] == list(RUNGS)


def test_no_rung_is_under_the_least_share_and_names_keep_the_order_of_the_graph():
    rng = np.random.default_rng(3)
    work = rng.integers(1, 100, 15)
    layers = [
        sensitivity(f"c{i:02d}", int(w), float(e), int(work.sum()))
        for i, (w, e) in enumerate(zip(work, rng.random(15), strict=True))
    ]
    for names in rungs(layers, int(work.sum())):
        assert int8_share([s.layer for s in layers], names, int(work.sum())) >= MIN_INT8_SHARE
        assert list(names) == sorted(names)


def test_a_small_layer_goes_before_a_large_one_of_the_same_error():
    layers = [sensitivity("large", 4, 0.1, 100), sensitivity("small", 2, 0.1, 100), sensitivity("rest", 94, 0.0, 100)]
    assert rungs(layers, 100)[0] == ("large", "rest")  # both would be 6 %


def test_one_layer_that_is_nearly_all_the_work_leaves_one_rung():
    layers = [sensitivity("all", 99, 5.0, 100), sensitivity("little", 1, 0.1, 100)]
    assert rungs(layers, 100) == [("all",)]


def test_attention_counts_in_the_share():
    """12 of 100 multiplications are attention's, so int8 reaches at most 88 %, which is below the upper rungs."""
    layers = [sensitivity("large", 80, 0.1, 100), sensitivity("small", 4, 0.5, 100), sensitivity("rest", 4, 0.1, 100)]
    assert rungs(layers, 100) == [("large", "small", "rest"), ("large",)]
