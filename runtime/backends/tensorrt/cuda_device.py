"""`Device` for an NVIDIA GPU: context, streams and memory by PyCUDA; events, graphs and kernels by `leakrt._cuda`.

Uses the primary context, which TensorRT, torch and LeakRT's kernels share. PyCUDA and the kernels are imported only
when a device is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ....core.errors import BackendError, one_line, require
from ....engines.library.device import current_context, find_device, pop_context
from ..device_memory import CapturedGraph, DeviceMemory, Event, Kernels, OutOfMemoryError, PinnedMemory, Stream

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: synchronizing with the default stream would invalidate a capture
REBUILD = "put a CUDA toolkit's nvcc on PATH and run `pip install --no-binary leakrt leakrt`"


def load_kernels() -> ModuleType:
    """Return `leakrt._cuda`. Raises BackendError if LeakRT was built without it."""
    try:
        from .... import _cuda
    except ImportError as error:
        raise BackendError(f"LeakRT was built without its CUDA kernels ({error}); {REBUILD}") from error
    return _cuda


class CudaDevice:
    """A `Device`: GPU number `index`. Its context is current in the creating thread until `close`."""

    def __init__(self, index: int = 0) -> None:
        """Raises BackendError (no driver, no such GPU, no kernels), MissingExtraError (PyCUDA)."""
        # First, for the driver's error message: PyCUDA's import fails without a driver.
        found = find_device(index)
        self._cuda = load_kernels()
        self._driver = require("pycuda.driver", "tensorrt")
        self.name, self._allocated = found.name, 0
        self._before = current_context()
        self.kernels: Kernels = self._cuda
        with _translated(self._driver, f"opening GPU {index}"):
            self._driver.init()
            device = self._driver.Device(index)
            self.mapped = bool(device.get_attribute(self._driver.device_attribute.INTEGRATED))
            self._context = device.retain_primary_context()
            self._context.push()
            try:
                # Streams here do not synchronize with the default one, so zeroing memory needs a stream to wait for.
                self._clearing = self._driver.Stream(_NON_BLOCKING)
            except BaseException:
                self._leave()
                raise

    def stream(self) -> Stream:
        """Return a new stream that does not synchronize with the default one."""
        with _translated(self._driver, "creating a stream"):
            return CudaStream(self._driver, self._driver.Stream(_NON_BLOCKING))

    def event(self) -> Event:
        """Return a new event with timing enabled."""
        return CudaEvent(self._cuda)

    def allocate(self, size: int, what: str) -> DeviceMemory:
        """Allocate zeroed device memory. Raises OutOfMemoryError."""
        try:
            memory = CudaMemory(self._driver, self._driver.mem_alloc(size), size, account=self._account)
        except self._driver.MemoryError as error:
            raise OutOfMemoryError(size, what, free=self._free()) from error
        try:
            with _translated(self._driver, f"clearing memory for {what}"):
                self._driver.memset_d8_async(memory.address, 0, size, self._clearing)
                self._clearing.synchronize()
        except BaseException:
            memory.free()
            raise
        return memory

    def allocate_host(self, size: int, what: str) -> PinnedMemory:
        """Allocate page-locked memory, mapped if the GPU shares the host's memory. Raises OutOfMemoryError."""
        flags = self._driver.host_alloc_flags.DEVICEMAP if self.mapped else 0
        try:
            array = self._driver.pagelocked_empty(size, np.uint8, mem_flags=flags)
        except self._driver.MemoryError as error:
            raise OutOfMemoryError(size, f"{what} (page-locked, on the host)") from error
        return PageLocked(self._driver, array, int(array.base.get_device_pointer()) if self.mapped else 0)

    def copy_in(self, to: int, source: npt.NDArray[Any], stream: Stream) -> None:
        """Copy asynchronously. Do not change the page-locked array before the stream has passed the copy."""
        with _translated(self._driver, "copying to the GPU"):
            self._driver.memcpy_htod_async(to, source, _raw(stream))

    def copy_out(self, to: npt.NDArray[Any], source: int, stream: Stream) -> None:
        """Copy asynchronously. Do not read the page-locked array before the stream has passed the copy."""
        with _translated(self._driver, "copying from the GPU"):
            self._driver.memcpy_dtoh_async(to, source, _raw(stream))

    def capture(self, stream: Stream, work: Callable[[], None]) -> CapturedGraph:
        """Capture with the CUDA runtime, because PyCUDA has no graphs. Raises BackendError."""
        self._cuda.begin_capture(stream.handle)
        try:
            work()
            return CudaGraph(self._cuda, self._cuda.end_capture(stream.handle))
        except BaseException:
            self._cuda.abandon_capture(stream.handle)
            raise

    def held(self) -> int:
        """Return the bytes allocated here, without TensorRT's weights and the context."""
        return self._allocated

    def close(self) -> None:
        """Release the primary context; the driver destroys it with its last user."""
        self._clearing = None
        self._leave()

    def _leave(self) -> None:
        with suppress(self._driver.Error):
            self._context.pop()
        with suppress(self._driver.Error):
            self._context.detach()  # PyCUDA 2026.1 makes a primary context current here and leaves it current
        if current_context() != self._before:
            pop_context()

    def _account(self, size: int) -> None:
        self._allocated += size

    def _free(self) -> int | None:
        with suppress(self._driver.Error):
            return int(self._driver.mem_get_info()[0])
        return None


class CudaMemory:
    """A `DeviceMemory`."""

    def __init__(self, driver: ModuleType, allocation: Any, size: int, *, account: Callable[[int], None]) -> None:
        self._driver, self._allocation, self._account = driver, allocation, account
        self.address, self.size = int(allocation), size
        account(size)

    def free(self) -> None:
        """Free it. Idempotent."""
        if self._allocation is not None:
            allocation, self._allocation = self._allocation, None
            self._account(-self.size)
            with suppress(self._driver.Error):  # after a device error, still free the rest
                allocation.free()


class PageLocked:
    """A `PinnedMemory`."""

    def __init__(self, driver: ModuleType, array: npt.NDArray[np.uint8], address: int) -> None:
        self._driver, self.array, self.address = driver, array, address
        self._allocation: Any = array.base

    def free(self) -> None:
        """Free it. Idempotent."""
        if self._allocation is not None:
            allocation, self._allocation = self._allocation, None
            self.array = np.empty(0, np.uint8)
            with suppress(self._driver.Error):  # as above
                allocation.free()


class CudaStream:
    """A `Stream`."""

    def __init__(self, driver: ModuleType, raw: Any) -> None:
        self._driver, self.raw = driver, raw
        self.handle = int(raw.handle)

    def synchronize(self) -> None:
        """Wait until the stream is idle. Raises BackendError."""
        with _translated(self._driver, "waiting for the GPU"):
            self.raw.synchronize()

    def free(self) -> None:
        """Drop the reference; PyCUDA destroys the stream with the last one. Idempotent."""
        self.raw = None


class CudaEvent:
    """An `Event` of the CUDA runtime. PyCUDA does not expose event handles, which a graph needs."""

    def __init__(self, cuda: ModuleType) -> None:
        self._cuda, self._handle = cuda, int(cuda.create_event())

    def record(self, stream: Stream) -> None:
        """Record the event on the stream. In a capture, it takes a new time at every launch."""
        self._cuda.record_event(self._handle, stream.handle)

    def synchronize(self) -> None:
        """Wait for the event with the GIL released. Raises BackendError."""
        self._cuda.synchronize_event(self._handle)

    def milliseconds_since(self, other: Event) -> float:
        """Return the time between two completed events."""
        assert isinstance(other, CudaEvent)
        return float(self._cuda.event_milliseconds(other._handle, self._handle))

    def free(self) -> None:
        """Free it. Idempotent."""
        if self._handle:
            handle, self._handle = self._handle, 0
            with suppress(BackendError):  # as above
                self._cuda.destroy_event(handle)


class CudaGraph:
    """A `CapturedGraph`."""

    def __init__(self, cuda: ModuleType, handle: int) -> None:
        self._cuda, self._handle = cuda, handle
        self.nodes = int(cuda.graph_nodes(handle))

    def launch(self, stream: Stream) -> None:
        """Launch the graph on a stream."""
        self._cuda.launch_graph(self._handle, stream.handle)

    def free(self) -> None:
        """Free it. Idempotent."""
        if self._handle:
            handle, self._handle = self._handle, 0
            with suppress(BackendError):  # as above
                self._cuda.destroy_graph(handle)


def _raw(stream: Stream) -> Any:
    assert isinstance(stream, CudaStream)
    return stream.raw


@contextmanager
def _translated(driver: ModuleType, doing: str) -> Iterator[None]:
    """Raise PyCUDA's errors as BackendError, in one line."""
    try:
        yield
    except driver.Error as error:
        raise BackendError(f"{doing} failed ({one_line(error)}); check the GPU with `nvidia-smi`") from error
