"""The device on host memory: streams are threads, and the kernels are CUDA's own code, run thread after thread.

What the chain does on a GPU it does here: work is put on a stream and done later, memory holds rubbish until it is
written, a graph replays addresses and not values, and memory can run out. For tests, and to try the chain where there
is no GPU.
"""

from __future__ import annotations

import ctypes
import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from leakrt import _grid
from leakrt.core.errors import BackendError
from leakrt.runtime.backends.device_memory import (
    ALIGNMENT,
    CapturedGraph,
    DeviceMemory,
    Event,
    FrameAt,
    OutOfMemoryError,
    PinnedMemory,
    Stream,
)

Work = Callable[[], None]
_POISON = 0xA5
_UNLIMITED = 1 << 62
_HANDLES = itertools.count(1)  # of streams: no two devices share one


class HostDevice:
    """A `Device`. `limit` is how many bytes it has."""

    name = "host memory"

    def __init__(self, limit: int = _UNLIMITED, *, mapped: bool = False) -> None:
        """`mapped`: as on a GPU that shares its memory with the host."""
        self.mapped, self._limit = mapped, limit
        self._held = 0
        self._streams: dict[int, HostStream] = {}
        self.kernels = HostKernels(self._streams)

    def stream(self) -> HostStream:
        """A thread that waits for work."""
        made = HostStream(next(_HANDLES))
        self._streams[made.handle] = made
        return made

    def event(self) -> HostEvent:
        """A moment that has not come."""
        return HostEvent()

    def allocate(self, size: int, what: str) -> HostBlock:
        """Memory, cleared. Raises OutOfMemoryError."""
        return self._take(size, what, 0)

    def allocate_host(self, size: int, what: str) -> HostBlock:
        """Memory full of rubbish: nothing says that page-locked memory is clear. It counts like the device's own."""
        return self._take(size, what, _POISON)

    def copy_in(self, to: int, source: npt.NDArray[Any], stream: Stream) -> None:
        """Copies when the stream gets there."""
        _own(stream).put(partial(_copy, to, source.ctypes.data, source.nbytes))

    def copy_out(self, to: npt.NDArray[Any], source: int, stream: Stream) -> None:
        """Copies when the stream gets there."""
        _own(stream).put(partial(_copy, to.ctypes.data, source, to.nbytes))

    def capture(self, stream: Stream, work: Work) -> HostGraph:
        """Keep the work instead of doing it."""
        return HostGraph(_own(stream).capture(work))

    def held(self) -> int:
        """Bytes allocated and not freed, on both sides."""
        return self._held

    def close(self) -> None:
        """End the streams. Raises BackendError when memory is left, for then something is freed too late or never."""
        for stream in self._streams.values():
            stream.free()
        if self._held:
            raise BackendError(f"{self._held} bytes are held after the device was closed")

    def _take(self, size: int, what: str, fill: int) -> HostBlock:
        if self._held + size > self._limit:
            raise OutOfMemoryError(size, what, free=self._limit - self._held)
        self._held += size
        return HostBlock(size, self._give_back, fill)

    def _give_back(self, size: int) -> None:
        self._held -= size


class HostBlock:
    """A `Memory` and a `HostMemory`. Once freed it is full of rubbish, so that a late use shows."""

    def __init__(self, size: int, on_free: Callable[[int], None], fill: int) -> None:
        self._memory = np.full(size + ALIGNMENT, fill, np.uint8)
        begin = -self._memory.ctypes.data % ALIGNMENT
        self.array = self._memory[begin : begin + size]
        self.size, self.address = size, self.array.ctypes.data
        self._on_free: Callable[[int], None] | None = on_free

    def free(self) -> None:
        """Give it back; a second time is nothing."""
        if self._on_free is not None:
            self._memory[:] = _POISON
            self._on_free(self.size)
            self._on_free = None


class HostStream:
    """A thread that does what is put here, in order, after everything put before."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._captured: list[Work] | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"host stream {handle}", daemon=True)
        self._thread.start()

    def put(self, work: Work) -> None:
        """Do it later, or keep it for a graph."""
        if self._captured is not None:
            self._captured.append(work)
        else:
            self._queue.put(work)

    def capture(self, work: Work) -> list[Work]:
        """What `work` puts here."""
        self._captured = []
        try:
            work()
            return self._captured
        finally:
            self._captured = None

    def synchronize(self) -> None:
        """Wait for all of it. Raises the first thing that went wrong, every time: a device that failed stays so."""
        if self._captured is not None:
            raise BackendError("a stream was waited for while a graph was captured on it")
        if not self._thread.is_alive():
            raise BackendError("a stream was waited for after it was freed")
        passed = threading.Event()
        self._queue.put(passed.set)
        passed.wait()
        self.check()

    def check(self) -> None:
        """Raises what went wrong so far."""
        if self._error is not None:
            raise BackendError(f"work on a stream failed ({self._error})") from self._error

    def free(self) -> None:
        """End the thread after what it has to do; a second time is nothing."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except BaseException as error:
                self._error = self._error or error


class HostEvent:
    """A moment on a HostStream."""

    def __init__(self) -> None:
        self._passed, self._moment = threading.Event(), 0.0
        self._stream: HostStream | None = None

    def record(self, stream: Stream) -> None:
        """It has not come until the stream gets here."""
        own = self._stream = _own(stream)
        self._passed.clear()
        own.put(self._come)

    def synchronize(self) -> None:
        """Wait for it. Raises BackendError for what went wrong on its stream."""
        self._passed.wait()
        if self._stream is not None:
            self._stream.check()

    def milliseconds_since(self, other: Event) -> float:
        """The time between two moments that have passed."""
        assert isinstance(other, HostEvent)
        return 1e3 * (self._moment - other._moment)

    def free(self) -> None:
        """Nothing is held."""

    def _come(self) -> None:
        self._moment = time.perf_counter()
        self._passed.set()


class HostGraph:
    """Work that is done again at every launch."""

    def __init__(self, work: Sequence[Work]) -> None:
        self._work = tuple(work)
        self.nodes = len(self._work)

    def launch(self, stream: Stream) -> None:
        """Put it on a stream."""
        for work in self._work:
            _own(stream).put(work)

    def free(self) -> None:
        """Forget the work."""
        self._work = ()


class HostKernels:
    """The `Kernels`, each put on its stream."""

    def __init__(self, streams: dict[int, HostStream]) -> None:
        self._streams = streams

    def fill_normals(
        self, out: int, draws: int, steps: int, elements: int, seed: int, sample: int, stream: int
    ) -> None:
        """See `_cuda.pyi`."""
        self._streams[stream].put(partial(_grid.fill_normals, out, draws, steps, elements, seed, sample))

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
    ) -> None:
        """See `_cuda.pyi`."""
        call = (latents, latents_type, bank, coefficients.copy(), out, out_type, batch, draws, elements)
        self._streams[stream].put(partial(_grid.noise_steps, *call))

    def preprocess(self, frames: Sequence[FrameAt], size: int, out: int, out_type: str, stream: int) -> None:
        """See `_cuda.pyi`."""
        self._streams[stream].put(partial(_grid.preprocess, list(frames), size, out, out_type))


def view(address: int, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Memory at an address as an array."""
    kind = np.dtype(dtype)
    memory = (ctypes.c_uint8 * (int(np.prod(shape)) * kind.itemsize)).from_address(address)
    return np.ndarray(shape, kind, buffer=memoryview(memory))


def _copy(to: int, source: int, size: int) -> None:
    view(to, (size,), "uint8")[:] = view(source, (size,), "uint8")


def _own(stream: Stream) -> HostStream:
    assert isinstance(stream, HostStream)
    return stream


def _keeps_to_the_protocols(block: HostBlock, graph: HostGraph) -> tuple[DeviceMemory, PinnedMemory, CapturedGraph]:
    return block, block, graph
