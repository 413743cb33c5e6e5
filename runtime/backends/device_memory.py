"""What the chain needs of a GPU. Everything of a device is used and freed in the thread that opened it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...core.errors import OutOfMemoryError as OutOfMemoryError

ALIGNMENT = 256  # bytes; of every buffer and every part of one
Frame = npt.NDArray[np.uint8]  # [H, W, 3] BGR
FrameAt = tuple[int, int, int, int]  # address, height, width, bytes from one row to the next


class DeviceMemory(Protocol):
    """Memory of the device."""

    address: int
    size: int  # bytes

    def free(self) -> None:
        """Give it back; a second time is nothing."""


class PinnedMemory(Protocol):
    """Page-locked memory of the host; `address` is where the device sees it, 0 where it does not."""

    address: int
    array: npt.NDArray[np.uint8]

    def free(self) -> None:
        """Give it back; a second time is nothing."""


class Stream(Protocol):
    """Work in order. `handle` is what kernels and engines are launched on."""

    handle: int

    def synchronize(self) -> None:
        """Wait for all of it. Raises BackendError for what went wrong on the way."""

    def free(self) -> None:
        """Give it back; a second time is nothing."""


class Event(Protocol):
    """A moment on a stream."""

    def record(self, stream: Stream) -> None:
        """Let it be the moment when the stream gets here: at every launch of a graph, where this is captured."""

    def synchronize(self) -> None:
        """Wait for it. Raises BackendError for what went wrong on the way."""

    def milliseconds_since(self, other: Event) -> float:
        """The time between two moments that have passed."""

    def free(self) -> None:
        """Give it back; a second time is nothing."""


class CapturedGraph(Protocol):
    """What was captured, launched as one."""

    nodes: int

    def launch(self, stream: Stream) -> None:
        """Put it on a stream."""

    def free(self) -> None:
        """Give it back; a second time is nothing."""


class Kernels(Protocol):
    """LeakRT's kernels on addresses of this device; see `_cuda.pyi`. `stream` is a Stream's handle."""

    def fill_normals(
        self, out: int, draws: int, steps: int, elements: int, seed: int, sample: int, stream: int
    ) -> None: ...

    def noise_steps(
        self,
        latents: int,
        latents_type: str,
        bank: int,
        coefficients: npt.NDArray[np.float32],
        out: int,
        out_type: str,
        batch: int,
        draws: int,
        elements: int,
        stream: int,
    ) -> None: ...

    def preprocess(self, frames: Sequence[FrameAt], size: int, out: int, out_type: str, stream: int) -> None: ...


class Device(Protocol):
    """One GPU, open in one thread.

    `mapped`: it shares its memory with the host, so that frames need no copy.
    """

    name: str
    mapped: bool
    kernels: Kernels

    def stream(self) -> Stream:
        """A new stream."""

    def event(self) -> Event:
        """A new event."""

    def allocate(self, size: int, what: str) -> DeviceMemory:
        """Device memory, cleared. Raises OutOfMemoryError, which names `what`."""

    def allocate_host(self, size: int, what: str) -> PinnedMemory:
        """Page-locked memory. Raises OutOfMemoryError, which names `what`."""

    def copy_in(self, to: int, source: npt.NDArray[Any], stream: Stream) -> None:
        """From page-locked memory to an address of the device."""

    def copy_out(self, to: npt.NDArray[Any], source: int, stream: Stream) -> None:
        """From an address of the device to page-locked memory."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> CapturedGraph:
        """What `work` puts on the stream, as a graph. Raises BackendError; the stream can be used again then."""

    def held(self) -> int:
        """Bytes of device memory that are allocated and not freed."""

    def close(self) -> None:
        """Leave the device, in the thread that opened it, after everything of it is freed."""


def aligned(size: int) -> int:
    """`size` bytes rounded up to ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT
