"""Preprocesses frames of any sizes to a batch of images on a device, in one launch of LeakRT's kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base import Frame
from ..device_memory import FrameAt, Kernels
from ..staging import frames_size, lay_frames, place_frames

_FIRST = 1 << 20  # bytes; the staging buffers grow on demand


class FrameFeed:
    """Staging buffers on host and device. Not thread-safe: synchronize the stream before the next `stage`."""

    def __init__(self, kernels: Kernels, side: int, device: torch.device) -> None:
        """`side`: S, the image side in pixels. Nothing is allocated before the first `stage`."""
        self._kernels, self._side, self._device = kernels, side, device
        self._host = self._there = torch.empty(0, dtype=torch.uint8)

    def stage(self, frames: Sequence[Frame]) -> Staged:
        """Start copying frames uint8 [H, W, 3] BGR to page-locked memory; see `lay_frames`.

        Raises torch.cuda.OutOfMemoryError.
        """
        size = frames_size(frames, self._side)
        if size > len(self._host):
            self._grow(size)
        pieces = lay_frames(frames, self._side, self._host.numpy())
        return Staged(
            host=self._host,
            there=self._there,
            pieces=pieces,
            where=place_frames(frames, self._side, self._there.data_ptr()),
        )

    def preprocess(self, staged: Staged, image: Tensor) -> None:
        """Preprocess copied frames into the first rows of `image` float32 [B, 3, S, S], on the current stream.

        Raises BackendError.
        """
        self._kernels.preprocess(staged.where, self._side, image.data_ptr(), "float32", self._stream)

    @property
    def _stream(self) -> int:
        return torch.cuda.current_stream(self._device).cuda_stream if self._device.type == "cuda" else 0

    def _grow(self, size: int) -> None:
        room = max(_FIRST, size + size // 2)
        there = torch.empty(room, dtype=torch.uint8, device=self._device)  # may fail, then the old buffers are kept
        self._host = torch.empty(room, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        self._there = there


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Frames that are being staged on the host, and their destination."""

    host: Tensor
    there: Tensor
    pieces: Iterator[slice]
    where: list[FrameAt]

    def copy(self) -> None:
        """Enqueue the copies to the device on the current stream. Call it once."""
        for piece in self.pieces:
            self.there[piece].copy_(self.host[piece], non_blocking=True)
