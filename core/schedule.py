"""The forward-diffusion schedule: how much latent and how much noise each timestep holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .errors import UsageError

BETA_START, BETA_END, TRAIN_STEPS = 0.00085, 0.012, 1000
SCHEDULES = ("scaled_linear", "linear")


def alphas_sigmas(schedule: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """alpha_t = sqrt(abar_t) and sigma_t = sqrt(1 - abar_t), each float64 [1000].

    `scaled_linear` is Stable Diffusion's own schedule (linear in sqrt(beta), 0.00085 to 0.012), `linear` is
    linear in beta, as in DDPM (Ho et al., 2020). Raises UsageError for another name.
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
    """The two coefficients of each step, float32 [T, 2], so that u_t = c[t, 0] z0 + c[t, 1] eps_t.

    With sigma_normalize (alpha_t / sigma_t, 1), without it (alpha_t, sigma_t). Computed in float64, rounded once.
    """
    alphas, sigmas = alphas_sigmas(schedule)
    index = np.asarray(timesteps, dtype=np.int64)
    a, s = alphas[index], sigmas[index]
    pair = (a / s, np.ones_like(s)) if sigma_normalize else (a, s)
    return np.stack(pair, axis=1).astype(np.float32)
