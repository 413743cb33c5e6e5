"""NumPy reference of the noise: Philox4x32-10 (Salmon et al., SC 2011) and Box-Muller.

counter = (element index // 4, step index, draw, sample), key = the 64-bit seed. One counter gives four 32-bit
words x0..x3 and four normals: the pairs (x0, x1) and (x2, x3) each give r cos(theta) and r sin(theta), with
u = ((x >> 8) + 0.5) 2^-24 in float32, r = sqrt(-2 log u1), theta = float32(2 pi) u2 rounded to float32.
log, sqrt, sin and cos are computed in float64 and rounded once. All other implementations agree within 2e-6.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_MASK = np.uint64(0xFFFFFFFF)
_TWO_PI = np.float32(2.0 * np.pi)

Words = npt.NDArray[np.uint32]
Normals = npt.NDArray[np.float32]


def philox4x32(counter: Words, seed: int) -> Words:
    """Apply ten rounds of Philox4x32 to `counter`, uint32 [..., 4], with the 64-bit key `seed`; uint32 [..., 4]."""
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        hi0, lo0 = p0 >> np.uint64(32), p0 & _MASK
        hi1, lo1 = p1 >> np.uint64(32), p1 & _MASK
        c0, c1, c2, c3 = hi1 ^ c1 ^ np.uint64(k0), lo1, hi0 ^ c3 ^ np.uint64(k1), lo0
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def box_muller(words: Words) -> Normals:
    """Convert four words, uint32 [..., 4], to four standard normals, float32 [..., 4]."""
    uniform = ((words >> np.uint32(8)).astype(np.float32) + np.float32(0.5)) * np.float32(2.0**-24)
    radius = np.sqrt(-2.0 * np.log(uniform[..., 0::2].astype(np.float64)))
    theta = (_TWO_PI * uniform[..., 1::2]).astype(np.float64)
    pairs = np.stack([radius * np.cos(theta), radius * np.sin(theta)], axis=-1)
    return pairs.reshape(words.shape).astype(np.float32)


def normals(seed: int, sample: int, draws: int, *, steps: int, shape: tuple[int, ...]) -> Normals:
    """Return the noise of one sample: float32 [draws, steps, *shape], standard normal.

    `shape` is that of one latent, such as (C, S/8, S/8). Its size need not be a multiple of four: surplus normals of
    the last counter are dropped. `seed` is reduced modulo 2^64, `sample` modulo 2^32.
    """
    elements = int(np.prod(shape, dtype=np.int64))
    blocks = -(-elements // 4)
    counter = np.empty((draws, steps, blocks, 4), dtype=np.uint32)
    counter[..., 0] = np.arange(blocks, dtype=np.uint32)
    counter[..., 1] = np.arange(steps, dtype=np.uint32)[None, :, None]
    counter[..., 2] = np.arange(draws, dtype=np.uint32)[:, None, None]
    counter[..., 3] = np.uint32(sample & 0xFFFFFFFF)
    flat = box_muller(philox4x32(counter, seed)).reshape(draws, steps, blocks * 4)
    return np.ascontiguousarray(flat[..., :elements]).reshape(draws, steps, *shape)


def noise_steps(
    latents: npt.NDArray[np.float32], bank: Normals, coefficients: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return the noised latents of all draws and steps: float32 [B x draws, T, C, H, W], sample-major.

    `latents` float32 [B, C, H, W]; `bank` float32 [draws, T, C, H, W], shared by the batch; `coefficients`
    float32 [T, 2] from `step_coefficients`. u_t = c[t, 0] z0 + c[t, 1] eps_t.
    """
    a = coefficients[None, None, :, 0, None, None, None]
    s = coefficients[None, None, :, 1, None, None, None]
    u = a * latents[:, None, None] + s * bank[None]
    return u.reshape(-1, *bank.shape[1:]).astype(np.float32, copy=False)
