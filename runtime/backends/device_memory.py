"""The interface of a GPU, as used by the chain. Use and free all objects in the thread that opened the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...core.errors import OutOfMemoryError as OutOfMemoryError

ALIGNMENT = 256  # bytes; of every buffer and every part of a buffer
Frame = npt.NDArray[np.uint8]  # [H, W, 3] BGR
FrameAt = tuple[int, int, int, int]  # address, height, width, bytes from one row to the next


class DeviceMemory(Protocol):
    """Device memory."""

    address: int
    size: int  # bytes

    def free(self) -> None:
        """Free it. Idempotent."""


class PinnedMemory(Protocol):
    """Page-locked host memory. `address`: its device address, 0 if it is not mapped."""

    address: int
    array: npt.NDArray[np.uint8]

    def free(self) -> None:
        """Free it. Idempotent."""


class Stream(Protocol):
    """A CUDA stream. `handle`: its cudaStream_t as a number."""

    handle: int

    def synchronize(self) -> None:
        """Wait until the stream is idle. Raises BackendError for errors of its work."""

    def free(self) -> None:
        """Free it. Idempotent."""


class Event(Protocol):
    """A CUDA event."""

    def record(self, stream: Stream) -> None:
        """Record the event on the stream. A captured record repeats at every launch of the graph."""

    def synchronize(self) -> None:
        """Wait for the event. Raises BackendError for errors of the work before it."""

    def milliseconds_since(self, other: Event) -> float:
        """Return the time between two completed events."""

    def free(self) -> None:
        """Free it. Idempotent."""


class CapturedGraph(Protocol):
    """An instantiated CUDA graph."""

    nodes: int

    def launch(self, stream: Stream) -> None:
        """Launch the graph on a stream."""

    def free(self) -> None:
        """Free it. Idempotent."""


class Kernels(Protocol):
    """LeakRT's kernels on device addresses; see `_cuda.pyi`. `stream`: the handle of a Stream."""

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
    """One GPU, opened in one thread.

    `mapped`: the GPU shares its memory with the host, so frames need no copy.
    """

    name: str
    mapped: bool
    kernels: Kernels

    def stream(self) -> Stream:
        """Return a new stream."""

    def event(self) -> Event:
        """Return a new event."""

    def allocate(self, size: int, what: str) -> DeviceMemory:
        """Allocate `size` bytes of zeroed device memory. Raises OutOfMemoryError, which names `what`."""

    def allocate_host(self, size: int, what: str) -> PinnedMemory:
        """Allocate `size` bytes of page-locked memory. Raises OutOfMemoryError, which names `what`."""

    def copy_in(self, to: int, source: npt.NDArray[Any], stream: Stream) -> None:
        """Copy page-locked memory to a device address."""

    def copy_out(self, to: npt.NDArray[Any], source: int, stream: Stream) -> None:
        """Copy from a device address to page-locked memory."""

    def capture(self, stream: Stream, work: Callable[[], None]) -> CapturedGraph:
        """Capture the work that `work` launches on the stream. Raises BackendError; the stream stays usable."""

    def held(self) -> int:
        """Return the bytes of device memory that are allocated and not freed."""

    def close(self) -> None:
        """Close the device in the thread that opened it. Free all its objects first."""


def aligned(size: int) -> int:
    """Return `size` bytes rounded up to a multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT
