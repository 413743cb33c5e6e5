"""Noising of latents on a device, with a noise bank that is drawn once on the host; see `core.noise`."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from ....core.noising import Noising as HostNoising
from ....core.spec import ModelSpec

_TYPES = {torch.float32: "float32", torch.float16: "float16"}


class DeviceNoising:
    """Maps latents float32 [B, C, S/8, S/8] to [B x draws, T, C, S/8, S/8] of `dtype`, sample-major.

    u_t = c[t, 0] z0 + c[t, 1] eps_t in float32, each product and the sum rounded, then rounded once to `dtype`. Bit for
    bit equal to `core.noise.noise_steps` with the bank that `leakrt._core` draws. On a GPU, `leakrt._cuda` computes it
    in one launch if it is built, else torch in two.
    """

    def __init__(self, spec: ModelSpec, dtype: torch.dtype, device: torch.device, *, threads: int) -> None:
        """Draw the bank and copy it to the device."""
        drawn = HostNoising(spec, threads=threads)
        bank, self._coefficients = drawn.bank, drawn.coefficients
        self._dtype, self._shape = dtype, bank.shape
        self._kernels = find_kernels() if device.type == "cuda" else None
        if self._kernels is None:
            scaled = self._coefficients[:, 1].reshape(-1, 1, 1, 1) * bank
            self._noise = torch.from_numpy(np.asarray(scaled, np.float32)).to(device)
            self._factor = torch.from_numpy(self._coefficients[:, 0].copy()).to(device).reshape(-1, 1, 1, 1)
        else:
            self._noise = torch.from_numpy(bank).to(device)

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the noised latents; see the class."""
        draws, steps = self._shape[:2]
        if self._kernels is None:
            return (self._factor * latent[:, None, None] + self._noise).to(self._dtype).flatten(0, 1)
        latent = latent.contiguous()
        out = latent.new_empty((len(latent) * draws, *self._shape[1:]), dtype=self._dtype)
        self._kernels.noise_steps(
            latent.data_ptr(), "float32", self._noise.data_ptr(), self._coefficients, out.data_ptr(),
            _TYPES[self._dtype], len(latent), draws, out[0].numel() // steps,
            torch.cuda.current_stream(latent.device).cuda_stream,
        )  # fmt: skip
        return out


def find_kernels() -> ModuleType | None:
    """Return `leakrt._cuda`, or None if LeakRT was built without it."""
    try:
        from .... import _cuda
    except ImportError:  # built without a CUDA toolkit
        return None
    return _cuda
