"""Frames of any sizes to a batch of images on a device: one copy, and one launch of LeakRT's preprocess kernel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base import Frame
from ..device_memory import FrameAt, Kernels
from ..staging import frames_size, lay_frames, place_frames

_FIRST = 1 << 20  # bytes; the room for frames grows with what comes


class FrameFeed:
    """Room for frames on both sides. For one thread at a time, which waits for the stream before it comes again."""

    def __init__(self, kernels: Kernels, side: int, device: torch.device) -> None:
        """`side`: S, pixels of an image. Nothing is allocated before the first frames come."""
        self._kernels, self._side, self._device = kernels, side, device
        self._host = self._there = torch.empty(0, dtype=torch.uint8)

    def stage(self, frames: Sequence[Frame]) -> Staged:
        """Begin to lay frames uint8 [H, W, 3] BGR in page-locked memory; see `lay_frames`. Raises
        torch.cuda.OutOfMemoryError."""
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
        """Put what was staged and copied on the current stream, into the first rows of `image` float32 [B, 3, S, S].

        Raises BackendError.
        """
        self._kernels.preprocess(staged.where, self._side, image.data_ptr(), "float32", self._stream)

    @property
    def _stream(self) -> int:
        return torch.cuda.current_stream(self._device).cuda_stream if self._device.type == "cuda" else 0

    def _grow(self, size: int) -> None:
        room = max(_FIRST, size + size // 2)
        there = torch.empty(room, dtype=torch.uint8, device=self._device)  # may fail: the old room is kept then
        self._host = torch.empty(room, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        self._there = there


@dataclass(frozen=True, kw_only=True)
class Staged:
    """Frames that are being laid on the host, and where they go."""

    host: Tensor
    there: Tensor
    pieces: Iterator[slice]
    where: list[FrameAt]

    def copy(self) -> None:
        """Put the copies on the current stream; once."""
        for piece in self.pieces:
            self.there[piece].copy_(self.host[piece], non_blocking=True)
