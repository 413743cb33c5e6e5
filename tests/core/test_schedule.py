"""The diffusion schedules against their definition, written as a loop, and against diffusers'."""

from __future__ import annotations

import math

import numpy as np
import pytest

from leakrt.core.errors import UsageError
from leakrt.core.schedule import SCHEDULES, TRAIN_STEPS, alphas_sigmas, step_coefficients


def by_loop(schedule: str) -> list[tuple[float, float]]:
    kept, pairs = 1.0, []
    for t in range(1000):
        share = t / 999
        if schedule == "linear":
            beta = 0.00085 + share * (0.012 - 0.00085)
        else:
            beta = (math.sqrt(0.00085) + share * (math.sqrt(0.012) - math.sqrt(0.00085))) ** 2
        kept *= 1.0 - beta
        pairs.append((math.sqrt(kept), math.sqrt(1.0 - kept)))
    return pairs


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_alpha_and_sigma_match_the_definition(schedule):
    alphas, sigmas = alphas_sigmas(schedule)
    assert alphas.shape == sigmas.shape == (TRAIN_STEPS,)
    np.testing.assert_allclose(np.stack([alphas, sigmas], 1), by_loop(schedule), rtol=1e-10)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_latent_fades_noise_grows_and_together_they_have_unit_power(schedule):
    alphas, sigmas = alphas_sigmas(schedule)
    assert (np.diff(alphas) < 0).all()
    assert (np.diff(sigmas) > 0).all()
    np.testing.assert_allclose(alphas**2 + sigmas**2, 1.0, rtol=1e-12)


def test_the_schedules_match_diffusers():
    diffusers = pytest.importorskip("diffusers")
    for schedule in SCHEDULES:
        theirs = diffusers.DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule=schedule).alphas_cumprod
        np.testing.assert_allclose(alphas_sigmas(schedule)[0] ** 2, theirs.numpy(), rtol=2e-4)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("timesteps", [(0,), (0, 20, 60, 150), (999, 3)])
def test_coefficients_are_rounded_once_in_the_order_of_the_steps(schedule, timesteps):
    pairs = by_loop(schedule)
    plain = step_coefficients(schedule, timesteps, sigma_normalize=False)
    normal = step_coefficients(schedule, timesteps, sigma_normalize=True)
    assert plain.dtype == normal.dtype == np.float32
    assert plain.shape == normal.shape == (len(timesteps), 2)
    np.testing.assert_allclose(plain, [pairs[t] for t in timesteps], rtol=1e-7)
    np.testing.assert_allclose(normal, [(pairs[t][0] / pairs[t][1], 1.0) for t in timesteps], rtol=1e-7)


def test_an_error_about_an_unknown_schedule_lists_the_known_ones():
    with pytest.raises(UsageError, match="no schedule named 'cosine'; choose one of: scaled_linear, linear"):
        step_coefficients("cosine", (0,), True)
