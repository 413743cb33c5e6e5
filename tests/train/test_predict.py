"""Outputs of a trained encoder, with the noise and averaging of every backend."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("torch")
from runs import COUNTS, tiny_run

from leakrt.core.noise import noise_steps, normals
from leakrt.core.schedule import step_coefficients
from leakrt.train.fit import open_fitted
from leakrt.train.predict import predict, run_encoder
from leakrt.train.run import Run


@pytest.fixture
def run(tmp_path) -> Run:
    """A copy of the run folder, which refers to the original data, encoder and latents."""
    return Run.open(shutil.copytree(tiny_run() / "run", tmp_path / "run"))


def test_outputs_use_the_reference_noise_and_are_averaged_over_draws(run):
    spec, encoder, latents = run.spec, run.encoder(), run.latents("test")
    bank = normals(spec.noise_seed, 0, spec.draws, steps=len(spec.timesteps), shape=spec.latent_shape)
    noised = noise_steps(latents, bank, step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize))
    wanted = run_encoder(encoder, noised).average_draws(spec.draws)
    found = predict(encoder, spec, latents)
    assert len(found.scores) == 3 * COUNTS["test"]
    assert np.abs(found.scores - wanted.scores).max() < 1e-4 * np.abs(wanted.scores).max()
    assert np.allclose(found.step_weights.sum(axis=1), 1.0, atol=1e-5)


def test_no_latents_give_no_outputs(run):
    assert predict(run.encoder(), run.spec, run.latents("test")[:0]).scores.shape == (0, 3)


def test_training_finds_the_textures(run):
    labels, scores = run.labels("test"), open_fitted(run).predict("test").scores
    assert (scores.argmax(axis=1) == labels).mean() > 0.5  # chance is a third
