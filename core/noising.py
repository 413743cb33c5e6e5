"""Noising of latents on the host, by the native kernel, with one fixed bank of noise."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .. import _core
from .schedule import step_coefficients
from .spec import ModelSpec

SAMPLE = 0  # inference uses fixed noise, so that a frame always has the same scores

Array = npt.NDArray[np.float32]


class Noising:
    """Adds noise to latents: u_t = c[t, 0] z0 + c[t, 1] eps_t, as in `core.noise`.

    Takes scaled latents, float32 [B, C, S/8, S/8], and returns float32 [B x draws, T, C, S/8, S/8], sample-major.
    Attributes: `row`, the shape [T, C, S/8, S/8]; `bank`, float32 [draws, T, C, S/8, S/8]; `coefficients`,
    float32 [T, 2].
    """

    def __init__(self, spec: ModelSpec, *, threads: int = 0) -> None:
        """Generate the bank of noise. `threads`: maximum number of threads; 0: one per core."""
        self.row = (len(spec.timesteps), *spec.latent_shape)
        self._threads = threads
        self.coefficients = step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize)
        self.bank = np.empty((spec.draws, *self.row), np.float32)
        _core.fill_normals(spec.noise_seed, SAMPLE, self.bank, threads=threads)

    def __call__(self, latents: Array, out: Array | None = None) -> Array:
        """Return the noised latents, in `out` if it is given (float32, of the shape of the result)."""
        whole = np.ascontiguousarray(latents)
        return _core.noise_steps(whole, self.bank, self.coefficients, out=out, threads=self._threads)
