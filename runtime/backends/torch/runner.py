"""Runs a chain operator by operator and times its stages: on the CPU, and on a GPU without CUDA graphs."""

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
    """Outputs of a batch, on the host, and the milliseconds of each stage on the device."""

    arrays: tuple[Array, ...]  # latent, scores, embedding, gates, step weights
    latency_ms: dict[str, float]


def joined(parts: Sequence[DeviceResult]) -> DeviceResult:
    """Concatenate the results of consecutive parts of a batch; stage times are summed."""
    if len(parts) == 1:
        return parts[0]
    arrays = tuple(np.concatenate(column) for column in zip(*(part.arrays for part in parts), strict=True))
    stages = dict.fromkeys(stage for part in parts for stage in part.latency_ms)
    return DeviceResult(arrays, {stage: sum(part.latency_ms.get(stage, 0.0) for part in parts) for stage in stages})


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Run convolutions without TF32 and with deterministic algorithms."""
    flags = torch.backends.cudnn.flags
    with flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


class ChainRunner(Protocol):
    """Runs a chain on batches. Not thread-safe."""

    chain: TorchChain

    def run(self, images: Array) -> DeviceResult:
        """Run images float32 [B, 3, S, S]. Raises ModelError, torch.cuda.OutOfMemoryError."""

    def forget(self, size: int) -> None:
        """Free what is kept for batches of this size and larger ones."""


class PlainRunner:
    """Runs a chain operator by operator."""

    def __init__(self, chain: TorchChain, device: torch.device) -> None:
        self.chain, self._device = chain, device

    def run(self, images: Array) -> DeviceResult:
        """Run the images; see ChainRunner. Stages are timed by the host's clock, with a device sync after each."""
        return self.take(torch.from_numpy(images).to(self._device))

    def take(self, images: Tensor) -> DeviceResult:
        """`run`, for images that are on the device."""
        marks: list[float] = []
        with torch.inference_mode(), exact():
            outputs = self.chain(images, lambda place: marks.append(self._now()))
            arrays = tuple(np.array(tensor.cpu().numpy()) for tensor in outputs)
        times = (1e3 * (b - a) for a, b in pairwise(marks))
        return DeviceResult(arrays, dict(zip(STAGES, times, strict=True)))

    def forget(self, size: int) -> None:
        """Return the cached memory of torch's allocator; nothing else is kept."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        return time.perf_counter()


def pack(outputs: Sequence[Tensor], images: int) -> Tensor:
    """Concatenate outputs to one row per image, for a single copy to the host.

    Each output has one or more rows per image.
    """
    return torch.cat([tensor.reshape(images, -1) for tensor in outputs], 1)


def unpack(packed: Array, shapes: Sequence[Sequence[int]], images: int) -> tuple[Array, ...]:
    """Split a copy of the rows of `packed` into outputs.

    `shapes` are the outputs' shapes for a batch of `images` images; `packed` may have fewer rows.
    """
    kept, begin, found = packed.copy(), 0, []
    for shape in shapes:
        end = begin + prod(shape) // images
        found.append(kept[:, begin:end].reshape(-1, *shape[1:]))
        begin = end
    return tuple(found)
