"""The forward-diffusion schedules: the coefficients of latent and noise at each timestep."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .errors import UsageError

BETA_START, BETA_END, TRAIN_STEPS = 0.00085, 0.012, 1000
SCHEDULES = ("scaled_linear", "linear")


def alphas_sigmas(schedule: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return alpha_t = sqrt(abar_t) and sigma_t = sqrt(1 - abar_t), each float64 [1000].

    `scaled_linear` is the schedule of Stable Diffusion (linear in sqrt(beta), 0.00085 to 0.012). `linear` is linear in
    beta over the same range, as in DDPM (Ho et al., 2020). Raises UsageError for any other name.
    """
    if schedule == "scaled_linear":
        betas = np.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS, dtype=np.float64) ** 2
    elif schedule == "linear":
        betas = np.linspace(BETA_START, BETA_END, TRAIN_STEPS, dtype=np.float64)
    else:
        raise UsageError(f"no schedule named {schedule!r}; choose one of: {', '.join(SCHEDULES)}")
    abar = np.cumprod(1.0 - betas)
    return np.sqrt(abar), np.sqrt(1.0 - abar)


def step_coefficients(schedule: str, timesteps: tuple[int, ...], sigma_normalize: bool) -> npt.NDArray[np.float32]:
    """Return the coefficients c of u_t = c[t, 0] z0 + c[t, 1] eps_t, float32 [T, 2].

    They are (alpha_t / sigma_t, 1) with `sigma_normalize`, else (alpha_t, sigma_t). Computed in float64, rounded once.
    """
    alphas, sigmas = alphas_sigmas(schedule)
    index = np.asarray(timesteps, dtype=np.int64)
    a, s = alphas[index], sigmas[index]
    pair = (a / s, np.ones_like(s)) if sigma_normalize else (a, s)
    return np.stack(pair, axis=1).astype(np.float32)
