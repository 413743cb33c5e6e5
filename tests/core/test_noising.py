"""One bank of noise for training, export, calibration and the runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from bundles import TINY_SPEC

from leakrt.core.noise import noise_steps, normals
from leakrt.core.noising import Noising
from leakrt.core.schedule import step_coefficients

SPEC = replace(TINY_SPEC, draws=3)


def latents(count):
    return np.random.default_rng(0).standard_normal((count, *SPEC.latent_shape)).astype(np.float32)


def test_latents_are_noised_as_the_reference_noises_them():
    found = Noising(SPEC)(latents(5))
    steps = len(SPEC.timesteps)
    assert found.shape == (15, steps, *SPEC.latent_shape)
    assert Noising(SPEC).row == found.shape[1:]
    bank = normals(SPEC.noise_seed, 0, SPEC.draws, steps=steps, shape=SPEC.latent_shape)
    coefficients = step_coefficients(SPEC.schedule, SPEC.timesteps, SPEC.sigma_normalize)
    np.testing.assert_allclose(found, noise_steps(latents(5), bank, coefficients), atol=2e-5)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_a_buffer_is_filled_with_the_same_bits_and_a_view_is_taken(threads):
    noising, given = Noising(SPEC, threads=threads), latents(4)
    wanted = Noising(SPEC)(given[::2].copy())
    out = np.empty((6, *noising.row), np.float32)
    assert noising(given[::2], out) is out
    np.testing.assert_array_equal(out, wanted)
