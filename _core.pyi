"""LeakRT's native core. All arrays are NumPy arrays in host memory, C-contiguous unless said otherwise.

The GIL is released while a function works. `threads` is the most that it may use; 0 is one a core, and small
work stays on the calling thread. Results are the same bits for every thread count, batch size and instruction
set. With `out` nothing is allocated, and `out` is what is returned; it may not overlap an input.

Raised everywhere: TypeError for something that is no array or has the wrong dtype, ValueError for a wrong shape
or layout, a negative `threads`, or an overlap; UsageError where $LEAKRT_SIMD can't run here.
"""

from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

_Bytes = npt.NDArray[np.uint8]
_Words = npt.NDArray[np.uint32]
_Floats = npt.NDArray[np.float32]
_Doubles = npt.NDArray[np.float64]

def simd() -> str:
    """The instruction set in use: baseline, avx2 or avx512; $LEAKRT_SIMD forces one."""

def simd_levels() -> list[str]:
    """The instruction sets this machine can run, widest first."""

def philox_words(counter: _Words, seed: SupportsIndex, out: _Words | None = None) -> _Words:
    """Philox4x32-10 of each row: uint32 [N, 4] to uint32 [N, 4], bit for bit `core.noise.philox4x32`.

    `seed` is taken modulo 2^64, here and below.
    """

def fill_normals(seed: SupportsIndex, sample: SupportsIndex, out: _Floats, threads: int = 0) -> None:
    """Fill `out` float32 [draws, T, ...] with the noise of one sample; within 2e-6 of `core.noise.normals`.

    `sample` is taken modulo 2^32.
    """

def noise_steps(
    latents: _Floats, bank: _Floats, coefficients: _Floats, out: _Floats | None = None, threads: int = 0
) -> _Floats:
    """All noised steps from kept noise: float32 [B x draws, T, C, H, W], sample-major.

    latents float32 [B, C, H, W], bank float32 [draws, T, C, H, W], coefficients float32 [T, 2]:
    u_t = c[t, 0] z0 + c[t, 1] eps_t, bit for bit `core.noise.noise_steps`.
    """

def noise_steps_fresh(
    latents: _Floats,
    coefficients: _Floats,
    seed: SupportsIndex,
    samples: _Words,
    draws: int = 1,
    out: _Floats | None = None,
    threads: int = 0,
) -> _Floats:
    """As `noise_steps`, with the noise of sample `samples[b]` for latent b, drawn in registers.

    samples uint32 [B].
    """

def preprocess(frame: _Bytes, out: _Floats, threads: int = 0) -> None:
    """Fill `out` float32 [3, S, S] from `frame` uint8 [H, W, 3] BGR of any size, RGB in [-1, 1].

    Antialiased bilinear resize of the short side to S, centre crop, x / 127.5 - 1, no rounding between; see
    `core.preprocess`. Rows of the frame may lie apart (a view of a larger image), their pixels may not.
    """

def kde_log_density(
    x: _Floats, support: _Floats, bandwidth: float, out: _Doubles | None = None, threads: int = 0
) -> _Doubles:
    """float64 [B]: log of the mean over support float32 [N, D] of N(x; support_n, bandwidth^2 I), x float32 [B, D].

    See `core.density`. Raises ValueError for an empty support or a bandwidth that is not positive.
    """
