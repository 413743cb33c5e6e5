"""Memory of one slot and its layout, for batches up to the largest."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ....core.graphs import TensorSpec, leak_encoder_graph, vae_encoder_graph
from ....core.spec import ModelSpec
from ..device_memory import Device, DeviceMemory, Frame, FrameAt, PinnedMemory, aligned
from ..staging import frames_size, lay_frames, place_frames

Piece = tuple[int, npt.NDArray[np.uint8]]  # an address of the device, and the page-locked bytes to copy there
_FIRST_FRAMES = 1 << 20  # bytes; the staging buffer grows on demand


@dataclass(frozen=True)
class Part:
    """One array in the block of results, which is copied to the host as a whole."""

    offset: int  # bytes
    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """Bytes."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize

    def of(self, block: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Return the array as a view of `block`."""
        return block[self.offset : self.offset + self.size].view(self.dtype).reshape(self.shape)


def result_parts(spec: ModelSpec, batch: int, types: Mapping[str, str]) -> dict[str, Part]:
    """Return the parts: latent [B, ...], then the leak encoder's outputs [B x draws, ...], aligned to ALIGNMENT."""
    parts: dict[str, Part] = {}
    offset = 0
    graphs = ((vae_encoder_graph(spec), batch), (leak_encoder_graph(spec), batch * spec.draws))
    for graph, rows in graphs:
        for tensor in graph.outputs:
            parts[tensor.name] = Part(offset, (rows, *tensor.shape), types[tensor.name])
            offset = aligned(offset + parts[tensor.name].size)
    return parts


def block_size(parts: Mapping[str, Part]) -> int:
    """Return the bytes of a block with these parts."""
    return max(aligned(part.offset + part.size) for part in parts.values())


def tensor_size(tensor: TensorSpec, rows: int, dtype: str) -> int:
    """Return the bytes of `rows` rows of a tensor."""
    return rows * int(np.prod(tensor.shape)) * np.dtype(dtype).itemsize


class Buffers:
    """Device and page-locked memory of one slot; `close` frees it in any state.

    Attributes: `image`, `noised`, `results`, `workspace` (device), `results_host` (page-locked).
    """

    def __init__(
        self, device: Device, spec: ModelSpec, batch: int, *, types: Mapping[str, str], workspace: int
    ) -> None:
        """Raises OutOfMemoryError after freeing what was allocated."""
        self._device, self._side = device, spec.image_size
        self._all: list[DeviceMemory | PinnedMemory] = []
        self._frames_host: PinnedMemory | None = None
        self._frames: DeviceMemory | None = None
        self._capacity = 0
        image, noised = vae_encoder_graph(spec).input, leak_encoder_graph(spec).input
        rows, size = batch * spec.draws, block_size(result_parts(spec, batch, types))
        label = f"of a batch of {batch}"
        try:
            self.image = self._device_memory(tensor_size(image, batch, types["image"]), f"the images {label}")
            self.noised = self._device_memory(tensor_size(noised, rows, types["noised"]), f"the noised latents {label}")
            self.results = self._device_memory(size, f"the results {label}")
            self.workspace = self._device_memory(max(workspace, 1), f"the engines' work on a batch of {batch}")
            self.results_host = device.allocate_host(size, f"the results {label}")
            self._all.append(self.results_host)
            self._reserve(_FIRST_FRAMES, label)
        except BaseException:
            self.close()
            raise

    def stage(self, frames: Sequence[Frame]) -> tuple[Iterator[Piece], list[FrameAt]]:
        """Start copying frames uint8 [H, W, 3] to page-locked memory; see `lay_frames`.

        Returns the pieces to copy to the device, each staged when it is requested, and where the kernel finds each
        frame. On a device that maps host memory there is nothing to copy: all frames are staged on return. Raises
        OutOfMemoryError; the slot stays usable.
        """
        size = frames_size(frames, self._side)
        if size > self._capacity:
            self._reserve(size, f"of frames of {', '.join(f'{f.shape[1]} x {f.shape[0]}' for f in frames)}")
        assert self._frames_host is not None
        host, base = self._frames_host.array, self._base()
        pieces = lay_frames(frames, self._side, host)
        where = place_frames(frames, self._side, base)
        if self._device.mapped:
            deque(pieces, maxlen=0)
            return iter(()), where
        return ((base + piece.start, host[piece]) for piece in pieces), where

    def staging(self, size: int) -> npt.NDArray[np.uint8]:
        """Return `size` bytes of page-locked memory for other input. Raises OutOfMemoryError."""
        if size > self._capacity:
            self._reserve(size, "of input")
        assert self._frames_host is not None
        return self._frames_host.array[:size]

    def close(self) -> None:
        """Free all memory. Idempotent."""
        for memory in (*self._all, self._frames_host, self._frames):
            if memory is not None:
                memory.free()
        self._all, self._frames_host, self._frames = [], None, None

    def _device_memory(self, size: int, what: str) -> DeviceMemory:
        memory = self._device.allocate(size, what)
        self._all.append(memory)
        return memory

    def _base(self) -> int:
        if self._frames is not None:
            return self._frames.address
        assert self._frames_host is not None
        return self._frames_host.address

    def _reserve(self, size: int, label: str) -> None:
        """Grow the staging buffer to at least `size` bytes. Frees the old one only after the new one is allocated."""
        size = max(size, min(2 * self._capacity, size + size // 2))
        host = self._device.allocate_host(size, f"the staging buffer {label}")
        frames = None
        if not self._device.mapped:
            try:
                frames = self._device.allocate(size, f"the staging buffer {label}")
            except BaseException:
                host.free()
                raise
        for old in (self._frames_host, self._frames):
            if old is not None:
                old.free()
        self._frames_host, self._frames, self._capacity = host, frames, size
