"""Runs a chain on images of the host and times its stages, as it stands: on the CPU, and on a GPU without graphs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .chain import STAGES, TorchChain

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class DeviceResult:
    """What a batch gave, on the host, and the milliseconds of each stage on the device."""

    arrays: tuple[Array, ...]  # latent, scores, embedding, gates, step weights
    latency_ms: dict[str, float]


def joined(parts: Sequence[DeviceResult]) -> DeviceResult:
    """The results of some of a batch's images after one another."""
    if len(parts) == 1:
        return parts[0]
    arrays = tuple(np.concatenate(column) for column in zip(*(part.arrays for part in parts), strict=True))
    stages = dict.fromkeys(stage for part in parts for stage in part.latency_ms)
    return DeviceResult(arrays, {stage: sum(part.latency_ms.get(stage, 0.0) for part in parts) for stage in stages})


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Convolutions in the precision they are given (no TF32) and by algorithms that give equal bits every time."""
    flags = torch.backends.cudnn.flags
    with flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


class ChainRunner(Protocol):
    """For one thread at a time."""

    chain: TorchChain

    def run(self, images: Array) -> DeviceResult:
        """images float32 [B, 3, S, S]. Raises ModelError, torch.cuda.OutOfMemoryError."""

    def forget(self, size: int) -> None:
        """Drop what is kept for batches of this size and larger ones."""


class PlainRunner:
    """Operator by operator."""

    def __init__(self, chain: TorchChain, device: torch.device) -> None:
        self.chain, self._device = chain, device

    def run(self, images: Array) -> DeviceResult:
        """See Runner. Stages are timed by the host's clock, waiting for the device after each."""
        return self.take(torch.from_numpy(images).to(self._device))

    def take(self, images: Tensor) -> DeviceResult:
        """`run`, of images that lie on the device."""
        marks: list[float] = []
        with torch.inference_mode(), exact():
            outputs = self.chain(images, lambda place: marks.append(self._now()))
            arrays = tuple(np.array(tensor.cpu().numpy()) for tensor in outputs)
        times = (1e3 * (b - a) for a, b in pairwise(marks))
        return DeviceResult(arrays, dict(zip(STAGES, times, strict=True)))

    def forget(self, size: int) -> None:
        """Nothing is kept but what torch's allocator does."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        return time.perf_counter()


def pack(outputs: Sequence[Tensor], images: int) -> Tensor:
    """Outputs of so many images, each of one or several rows an image, as one row an image: one copy to the host."""
    return torch.cat([tensor.reshape(images, -1) for tensor in outputs], 1)


def unpack(packed: Array, shapes: Sequence[Sequence[int]], images: int) -> tuple[Array, ...]:
    """The outputs of the first rows, from a copy of `packed`; `shapes` are those of outputs of so many `images`."""
    kept, begin, found = packed.copy(), 0, []
    for shape in shapes:
        end = begin + prod(shape) // images
        found.append(kept[:, begin:end].reshape(-1, *shape[1:]))
        begin = end
    return tuple(found)
