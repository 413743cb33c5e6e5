"""Where kernels run: on the GPU through torch's memory and `leakrt._cuda`, or in a rehearsal on the CPU through its
host twin `leakrt._grid`. The code of a part is the same on both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_GUARD, _POISON = 64, 0xA5  # bytes on either side of a result, and what it holds before
_ALIGNMENT = 256
_FLUSH = 256 << 20  # bytes written between two samples: five times an H100's L2
_PAUSE = 100_000  # clocks that the GPU waits before a sample whose data may be in its cache


class Place:
    """Memory, kernels and a clock. `gpu` is False in a rehearsal."""

    def __init__(self, gpu: bool) -> None:
        self.gpu, self.device = gpu, torch.device("cuda" if gpu else "cpu")
        if gpu:
            from leakrt import _cuda as kernels

            self._flush = torch.empty(max(_FLUSH, 4 * self.properties.L2_cache_size), dtype=torch.uint8, device="cuda")
        else:
            from leakrt import _grid as kernels
        self.kernels: Any = kernels

    @property
    def stream(self) -> int:
        """The handle that kernels are launched on."""
        return torch.cuda.current_stream().cuda_stream if self.gpu else 0

    @property
    def properties(self) -> Any:
        """Of the GPU, as torch knows them."""
        return torch.cuda.get_device_properties(self.device)

    def wait(self) -> None:
        """Until all that was launched is done. Raises what went wrong."""
        if self.gpu:
            torch.cuda.synchronize()

    def result(self, shape: Sequence[int], dtype: str, shift: int = 0) -> Guarded:
        """Poisoned memory between guards, its first byte `shift` bytes off an alignment of 256."""
        return Guarded(self, tuple(shape), np.dtype(dtype), shift)

    def given(self, array: npt.NDArray[Any], shift: int = 0) -> Guarded:
        """A copy of an array at such a place."""
        placed = self.result(array.shape, array.dtype.str, shift)
        placed.write(array)
        return placed

    def samples(self, work: Callable[[], object], rounds: int, warm: int = 5, flush: bool = True) -> list[float]:
        """Microseconds of `work` on the device, each from a cold cache, or without `flush` from a warm one.

        Launches wait behind the flush or a pause, so that the host's own time is not in them.
        """
        for _ in range(warm):
            work()
        self.wait()
        return self._on_gpu(work, rounds, flush) if self.gpu else self._on_cpu(work, rounds)

    def _on_gpu(self, work: Callable[[], object], rounds: int, flush: bool) -> list[float]:
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
        for begin, end in events:
            if flush:
                self._flush.fill_(1)
            else:
                torch.cuda._sleep(_PAUSE)
            begin.record()
            work()
            end.record()
        self.wait()
        return [1e3 * begin.elapsed_time(end) for begin, end in events]

    @staticmethod
    def _on_cpu(work: Callable[[], object], rounds: int) -> list[float]:
        found = []
        for _ in range(rounds):
            begin = time.perf_counter()
            work()
            found.append(1e6 * (time.perf_counter() - begin))
        return found


class Guarded:
    """An array on the device between two guards."""

    def __init__(self, place: Place, shape: tuple[int, ...], dtype: np.dtype[Any], shift: int) -> None:
        self._place, self._shape, self._dtype = place, shape, dtype
        self.size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._memory = torch.full(
            (self.size + 2 * _GUARD + 2 * _ALIGNMENT,), _POISON, dtype=torch.uint8, device=place.device
        )
        self._begin = -self._memory.data_ptr() % _ALIGNMENT + _ALIGNMENT + shift
        self.address = self._memory.data_ptr() + self._begin

    def write(self, array: npt.NDArray[Any]) -> None:
        """Copy values in."""
        values = torch.from_numpy(np.ascontiguousarray(array).reshape(-1).view(np.uint8).copy())
        self._memory[self._begin : self._begin + self.size].copy_(values)

    def poison(self) -> None:
        """Fill it with rubbish, guards and all."""
        self._memory.fill_(_POISON)

    def read(self) -> npt.NDArray[Any]:
        """A copy on the host. Raises ValueError when a byte outside was written."""
        self._place.wait()
        raw = self._memory.cpu().numpy()
        inside = raw[self._begin : self._begin + self.size]
        outside = np.concatenate([raw[: self._begin], raw[self._begin + self.size :]])
        if not (outside == _POISON).all():
            raise ValueError("a byte outside the result was written")
        return inside.copy().view(self._dtype).reshape(self._shape)
