"""Calls the CUDA kernels' host twin, `leakrt._grid`, on NumPy arrays with poisoned results and guarded ends."""

from __future__ import annotations

import numpy as np

from leakrt import _grid

GUARD = 64  # bytes on either side of a result
POISON = 0xA5
ORDERS = (0, 1)  # threads in order, and in reverse


class Guarded:
    """A poisoned array between two guards, its first byte `shift` bytes off a multiple of 16."""

    def __init__(self, shape: tuple[int, ...], dtype: str, shift: int = 0) -> None:
        self.size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._memory = np.full(self.size + 2 * GUARD + 32, POISON, np.uint8)
        self._begin = -self._memory.ctypes.data % 16 + GUARD + shift
        self.array = self._memory[self._begin : self._begin + self.size].view(dtype).reshape(shape)

    @property
    def address(self) -> int:
        return self._memory.ctypes.data + self._begin

    def check(self) -> None:
        outside = np.delete(self._memory, slice(self._begin, self._begin + self.size))
        assert (outside == POISON).all(), "a byte outside the result was written"


def placed(array: np.ndarray, shift: int = 0) -> Guarded:
    """A copy at an address of that alignment."""
    guarded = Guarded(array.shape, array.dtype.str, shift)
    guarded.array[...] = array
    return guarded


def both_orders(run, result: Guarded) -> np.ndarray:
    """What `run(order)` leaves in `result`, the same whatever the order of threads."""
    kept = []
    for order in ORDERS:
        result.array.view(np.uint8)[...] = POISON
        run(order)
        result.check()
        kept.append(result.array.copy())
    assert kept[0].tobytes() == kept[1].tobytes(), "the result depends on the order of threads"
    return kept[0]


def noise_steps(latents, bank, coefficients, out_type="float32", shift=0) -> np.ndarray:
    """latents [B, ...] and bank [draws, T, ...] to [B x draws, T, ...] of `out_type`."""
    z, eps = placed(latents, shift), placed(bank, shift)
    out = Guarded((len(latents) * len(bank), *bank.shape[1:]), out_type, shift)
    sizes = (len(latents), len(bank), int(np.prod(latents.shape[1:])))
    call = (z.address, str(latents.dtype), eps.address, coefficients, out.address, out_type, *sizes)
    return both_orders(lambda order: _grid.noise_steps(*call, order), out)


def noise_steps_fresh(latents, coefficients, seed, samples, draws, out_type="float32", shift=0) -> np.ndarray:
    """As above, with the noise of `samples` uint32 [B]."""
    z, own = placed(latents, shift), placed(samples)
    out = Guarded((len(latents) * draws, len(coefficients), *latents.shape[1:]), out_type, shift)
    sizes = (len(latents), draws, int(np.prod(latents.shape[1:])))
    call = (z.address, str(latents.dtype), coefficients, out.address, out_type, *sizes, seed, own.address)
    return both_orders(lambda order: _grid.noise_steps_fresh(*call, order), out)


def fill_normals(seed, sample, draws, steps, shape, shift=0) -> np.ndarray:
    """float32 [draws, steps, *shape]."""
    out = Guarded((draws, steps, *shape), "float32", shift)
    call = (out.address, draws, steps, int(np.prod(shape)), seed, sample)
    return both_orders(lambda order: _grid.fill_normals(*call, order), out)


def preprocess(frames, size, out_type="float32") -> np.ndarray:
    """[B, 3, size, size] from uint8 frames [H, W, 3], which may be views with rows apart."""
    out = Guarded((len(frames), 3, size, size), out_type)
    described = [(f.ctypes.data, f.shape[0], f.shape[1], f.strides[0]) for f in frames]
    return both_orders(lambda order: _grid.preprocess(described, size, out.address, out_type, order), out)


def kde_log_density(x, support, bandwidth) -> np.ndarray:
    """float64 [B]."""
    workspace = Guarded((_grid.density_workspace(len(x), len(support)) // 8,), "float64")
    out = Guarded((len(x),), "float64")
    points, centres = placed(x), placed(support)
    call = (points.address, len(x), centres.address, *support.shape, bandwidth, workspace.address, out.address)
    result = both_orders(lambda order: _grid.kde_log_density(*call, order), out)
    workspace.check()
    return result
