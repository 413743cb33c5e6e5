"""Implausible outputs are detected by bounds from validation images."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from leakrt.core.bounds import EDGE_FLOOR, MARGIN, RMS_MARGIN, SCORE_MARGIN, UNSTATED, Bounds, observe
from leakrt.core.errors import BundleError
from leakrt.core.outputs import LeakOutputs

RNG = np.random.default_rng(0)
LATENTS = RNG.standard_normal((7, 4, 5, 3)).astype(np.float32)
OUTPUTS = LeakOutputs(*(RNG.uniform(-1, 1, (7, n)).astype(np.float32) for n in (3, 6, 6, 2)))
BOUNDS = observe(LATENTS, OUTPUTS)


def fault(latent=LATENTS[0], bounds=BOUNDS, **outputs):
    return bounds.fault(np.asarray(latent, np.float32), replace(OUTPUTS, **outputs), 0)


def test_bounds_are_the_observed_extremes_times_the_margin():
    assert pytest.approx(MARGIN * np.abs(LATENTS).max()) == BOUNDS.latent
    rms = np.sqrt((LATENTS.astype(np.float64) ** 2).mean(axis=(1, 2, 3)))
    assert pytest.approx(rms.min() / MARGIN) == BOUNDS.latent_rms_low
    assert pytest.approx(RMS_MARGIN * rms.max()) == BOUNDS.latent_rms_high
    assert max(EDGE_FLOOR, MARGIN * 2 / 60) == BOUNDS.latent_edge
    assert pytest.approx(SCORE_MARGIN * np.abs(OUTPUTS.scores).max()) == BOUNDS.scores


def test_all_validation_outputs_are_accepted():
    assert {BOUNDS.fault(z, OUTPUTS, row) for row, z in enumerate(LATENTS)} == {""}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_non_finite_value_is_detected_even_without_stated_bounds(bad):
    latent = LATENTS[0].copy()
    latent[2, 1, 1] = bad
    for bounds in (BOUNDS, UNSTATED):
        assert fault(latent, bounds) == "the VAE encoder returned a value that is not finite"
    for name in ("scores", "embedding", "gates", "step_weights"):
        part = getattr(OUTPUTS, name).copy()
        part[0, 1] = bad
        assert fault(bounds=UNSTATED, **{name: part}) == "the leak encoder returned a value that is not finite"


@pytest.mark.parametrize(
    ("latent", "reason"),
    [
        (1e4 * LATENTS[0], "of magnitude"),
        (3.5 * LATENTS[0], "of RMS"),
        (0 * LATENTS[0], "of RMS 0, outside"),
        (np.sign(LATENTS[0]) * np.abs(LATENTS).max(), "of RMS"),
        (np.clip(LATENTS[0], -0.8, 0.8), "of its values are at its extremes"),
        (np.full_like(LATENTS[0], 1.0), "100% of its values are at its extremes"),
    ],
    ids=["huge", "large", "zeros", "saturated at the largest", "clipped", "one value"],
)
def test_an_implausible_latent_is_detected_with_its_reason(latent, reason):
    assert reason in fault(latent)


@pytest.mark.parametrize("latent", [1e5 * LATENTS[0], np.full_like(LATENTS[0], 65504), 9e3 * np.sign(LATENTS[0])])
def test_without_stated_bounds_latents_that_no_vae_produces_are_detected(latent):
    assert fault(latent, UNSTATED) != ""


@pytest.mark.parametrize("latent", [50 * LATENTS[0], np.clip(LATENTS[0], -0.8, 0.8)])
def test_without_stated_bounds_all_other_outputs_are_accepted(latent):
    assert fault(latent, UNSTATED) == ""


def test_implausible_scores_and_embeddings_are_detected():
    assert fault(scores=100 * OUTPUTS.scores).startswith("the leak encoder returned scores of magnitude")
    assert fault(embedding=100 * OUTPUTS.embedding).startswith("the leak encoder returned an embedding of magnitude")


def test_only_the_requested_row_counts():
    scores = OUTPUTS.scores.copy()
    scores[3] = math.nan
    outputs = replace(OUTPUTS, scores=scores)
    assert [bool(BOUNDS.fault(z, outputs, row)) for row, z in enumerate(LATENTS)] == [row == 3 for row in range(7)]


def test_bounds_of_non_finite_outputs_are_rejected():
    with pytest.raises(BundleError, match="not finite"):
        observe(LATENTS * np.float32(np.nan), OUTPUTS)


def test_bounds_round_trip_through_json():
    assert Bounds.from_json(BOUNDS.to_json()) == BOUNDS
    assert UNSTATED.to_json() is None
    assert Bounds.from_json(None) is UNSTATED


@pytest.mark.parametrize("change", [{"latent": "1"}, {"scores": -1}, {"scores": math.nan}, {"x": 1}, {"latent": True}])
def test_an_invalid_block_is_rejected(change):
    with pytest.raises(BundleError, match=r"^decision: "):
        Bounds.from_json(BOUNDS.to_json() | change)
