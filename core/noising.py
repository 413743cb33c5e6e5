"""The noised latents that every backend on the host is given: one bank of noise, by the native kernel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .. import _core
from .schedule import step_coefficients
from .spec import ModelSpec

SAMPLE = 0  # at inference the noise never moves, so that a frame keeps its scores

Array = npt.NDArray[np.float32]


class Noising:
    """Called with latents float32 [B, 4, S/8, S/8], scaled, gives float32 [B x draws, T, 4, S/8, S/8], sample-major:
    u_t = c[t, 0] z0 + c[t, 1] eps_t, as `core.noise` has it. Attributes: `row`, the shape
    [T, 4, S/8, S/8]; `bank` float32 [draws, T, 4, S/8, S/8]; `coefficients` float32 [T, 2].
    """

    def __init__(self, spec: ModelSpec, *, threads: int = 0) -> None:
        """Draw the noise; `threads` at most work, 0: one a core."""
        self.row = (len(spec.timesteps), *spec.latent_shape)
        self._threads = threads
        self.coefficients = step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize)
        self.bank = np.empty((spec.draws, *self.row), np.float32)
        _core.fill_normals(spec.noise_seed, SAMPLE, self.bank, threads=threads)

    def __call__(self, latents: Array, out: Array | None = None) -> Array:
        """`out`, of the result's shape, is filled and returned; without it a new array is."""
        whole = np.ascontiguousarray(latents)
        return _core.noise_steps(whole, self.bank, self.coefficients, out=out, threads=self._threads)
