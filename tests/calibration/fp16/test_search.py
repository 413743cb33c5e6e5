"""Search for islands by score error."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("torch")
onnx = pytest.importorskip("onnx", reason="graphs are drawn with onnx")
from bundles import TINY_SPEC, leak_encoder, noise_image, vae_encoder

from leakrt import _core
from leakrt.calibration.fp16.search import IslandSearch, score_error, score_margins, search_images
from leakrt.core.progress import silent

SPEC = TINY_SPEC
RNG = np.random.default_rng(5)
PROTOTYPES = RNG.standard_normal((3, 2, 12)).astype(np.float32)
VAE, LEAK = vae_encoder(SPEC), leak_encoder(SPEC, PROTOTYPES)


def pictures(count=6):
    found = []
    for i in range(count):
        found.append(np.empty((3, SPEC.image_size, SPEC.image_size), np.float32))
        _core.preprocess(noise_image(i), found[-1])
    return found


def search(vae=VAE, leak=LEAK):
    return IslandSearch(SPEC, vae, leak, images=pictures(), threads=1, progress=silent)


def offset(model, amount):
    """Add `amount` before the last node of the VAE encoder and subtract it again, which loses bits in float16."""
    parsed = onnx.load_model_from_string(model)
    last = parsed.graph.node[-1]
    parsed.graph.initializer.append(onnx.numpy_helper.from_array(np.float32([amount]), "amount"))
    given = last.input[0]
    up = onnx.helper.make_node("Add", [given, "amount"], ["up"], "up")
    down = onnx.helper.make_node("Sub", ["up", "amount"], ["down"], "down")
    last.input[0] = "down"
    del parsed.graph.node[-1]
    parsed.graph.node.extend([up, down, last])
    return parsed.SerializeToString()


def test_equal_scores_have_no_error():
    scores = RNG.standard_normal((9, 4)).astype(np.float32)
    found = score_error(scores, scores.copy(), score_margins(scores))
    assert (found.relative, found.disagreement) == (0.0, 0.0)


def test_a_common_offset_is_no_error_but_a_difference_is():
    scores = RNG.standard_normal((9, 4)).astype(np.float32)
    assert score_error(scores, scores + 1, score_margins(scores)).relative < 1e-6
    assert score_error(scores, scores * np.float32(1.1), score_margins(scores)).relative == pytest.approx(0.1, rel=1e-4)


def test_the_expected_disagreement_pairs_every_margin_with_every_error():
    wanted = np.float32([[0, 1, 5], [0, 2, 9]])
    found = wanted + np.float32([[0, 0.5, -0.5], [0, 0, 0]])  # the first gap shrinks by 1
    assert score_error(wanted, found, np.float32([0.5, 0.9, 1.1, 3.0])).disagreement == 0.25


def test_scores_that_are_not_finite_have_an_infinite_error():
    wanted, found = np.zeros((2, 3), np.float32), np.float32([[0, np.nan, 0], [0, 0, 0]])
    assert (score_error(wanted, found, wanted[0]).relative, score_error(wanted, found, wanted[0]).disagreement) == (
        float("inf"),
        1.0,
    )


def test_every_step_lowers_the_error_and_adds_to_the_islands():
    steps = list(search().steps(np.float32([0.1, 0.5])))
    assert steps[0].region == ""
    assert not steps[0].islands
    assert len(steps) > 1
    for before, after in pairwise(steps):
        assert before.islands < after.islands
        assert after.error.relative < before.error.relative
        assert min(after.half_share.values()) >= 0.8


def test_the_first_island_is_the_source_of_the_error():
    first = list(search(vae=offset(VAE, 300.0)).steps(np.float32([0.1])))[1]
    assert ("vae_encoder", "up") in first.islands or ("vae_encoder", "down") in first.islands
    assert first.half_share == {"vae_encoder": pytest.approx(first.half_share["vae_encoder"]), "leak_encoder": 1.0}


def test_overflowing_nodes_are_islands_from_the_start():
    steps = search(vae=offset(VAE, 1e5)).steps(np.float32([0.1]))
    first = next(steps)
    assert {("vae_encoder", "up"), ("vae_encoder", "down")} <= first.islands
    assert np.isfinite(first.error.relative)


def test_a_large_encoder_is_measured_on_fewer_images():
    assert search_images(VAE, "vae_encoder") == 48
    big = vae_encoder(replace(SPEC, image_size=1024), widths=(32, 64))
    assert 8 <= search_images(big, "vae_encoder") <= 48
