"""Query the NVIDIA GPUs of this machine through the driver library, so that no CUDA package is needed."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...core.errors import BackendError

_MULTIPROCESSORS, _INTEGRATED, _MAJOR, _MINOR = 16, 18, 75, 76  # CUdevice_attribute
_ERRORS = {
    3: "the driver is shutting down",
    100: "no NVIDIA GPU is visible",
    803: "kernel module and library versions differ",
}
_REMEDIES = {100: "check CUDA_VISIBLE_DEVICES and `nvidia-smi`", 803: "restart the machine"}
_VERSION_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, kw_only=True)
class TargetDevice:
    """The GPU that an engine is bound to. All empty (NO_DEVICE) for engines built for compute capabilities."""

    name: str = ""
    capability: str = ""  # compute capability, such as "8.9"
    multiprocessors: int = 0  # a MIG slice has the name of its GPU but fewer multiprocessors
    driver: str = ""  # driver version, or the CUDA version it supports if unknown


NO_DEVICE = TargetDevice()


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A visible GPU, with properties that don't affect its engines."""

    index: int  # value for --device
    device: TargetDevice
    memory: int  # bytes
    integrated: bool  # shares the memory of the host, as on a Jetson


@dataclass(frozen=True, kw_only=True)
class Driver:
    """The loaded driver, or the reason why there is none."""

    library: Any  # ctypes.CDLL, or None
    problem: str
    cuda: str  # highest CUDA version it supports, such as "12.4"; empty without a driver
    code: int = 0  # CUDA error code if its initialization failed


@lru_cache(maxsize=1)
def find_driver() -> Driver:
    """Load and initialize the driver library, once per process. Never raises."""
    name = "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return Driver(library=None, problem=f"no NVIDIA driver here: {name} can't be loaded", cuda="")
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    cuda = f"{version.value // 1000}.{version.value % 1000 // 10}"
    code = library.cuInit(0)
    if code:
        reason = _ERRORS.get(code, f"its initialization failed with CUDA error {code}")
        return Driver(library=None, problem=f"the NVIDIA driver can't be used: {reason}", cuda=cuda, code=code)
    return Driver(library=library, problem="", cuda=cuda)


def list_devices() -> list[TargetDevice]:
    """Return the visible GPUs in the order of the driver, empty without a driver. Raises BackendError."""
    driver = find_driver()
    if driver.library is None:
        return []
    count = ctypes.c_int()
    _check(driver.library.cuDeviceGetCount(ctypes.byref(count)), "counting the GPUs")
    return [_describe(driver, index) for index in range(count.value)]


def list_gpus() -> list[Gpu]:
    """Return the visible GPUs with their memory, in the order of `list_devices`. Raises BackendError."""
    library = find_driver().library
    gpus = []
    for index, device in enumerate(list_devices()):
        handle, size = ctypes.c_int(), ctypes.c_size_t()
        _check(library.cuDeviceGet(ctypes.byref(handle), index), f"opening GPU {index}")
        _check(library.cuDeviceTotalMem_v2(ctypes.byref(size), handle), f"reading the memory of GPU {index}")
        gpus.append(
            Gpu(
                index=index, device=device, memory=size.value, integrated=bool(_attribute(library, handle, _INTEGRATED))
            )
        )
    return gpus


def driver_version() -> str:
    """Return the driver version, such as "550.54.15", or an empty string (some Jetsons)."""
    try:
        return parse_driver_version(_VERSION_FILE.read_text())
    except OSError:
        return ""


def parse_driver_version(text: str) -> str:
    """Parse /proc/driver/nvidia/version. Returns an empty string if it has no version, as on Thor ("TempVersion")."""
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else ""


def find_device(index: int) -> TargetDevice:
    """Return the GPU with this index. Raises BackendError if there is no driver or no such GPU."""
    driver = find_driver()
    if driver.library is None:
        what = _REMEDIES.get(driver.code, "run `nvidia-smi` to see its state") if driver.cuda else "install the driver"
        raise BackendError(f"{driver.problem}; {what}")
    devices = list_devices()
    if 0 <= index < len(devices):
        return devices[index]
    listed = ", ".join(f"{i}: {device.name}" for i, device in enumerate(devices)) or "none"
    raise BackendError(f"--device {index}: no such GPU; this machine has {listed}")


@contextmanager
def use_device(index: int) -> Iterator[None]:
    """Make the primary context of a GPU current in this thread; TensorRT uses the current one. Raises BackendError."""
    find_device(index)
    library = find_driver().library
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    _check(library.cuDeviceGet(ctypes.byref(handle), index), f"opening GPU {index}")
    _check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle), f"creating a context on GPU {index}")
    try:
        _check(library.cuCtxPushCurrent_v2(context), f"selecting GPU {index}")
        try:
            yield
        finally:
            pop_context()
    finally:
        library.cuDevicePrimaryCtxRelease_v2(handle)


def current_context() -> int:
    """Return the handle of the current context of this thread, 0 if there is none. Raises BackendError."""
    library, context = find_driver().library, ctypes.c_void_p()
    if library is not None:
        _check(library.cuCtxGetCurrent(ctypes.byref(context)), "getting the current context")
    return context.value or 0


def pop_context() -> None:
    """Pop the current context of this thread, which restores the previous one."""
    find_driver().library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def _describe(driver: Driver, index: int) -> TargetDevice:
    library, handle, name = driver.library, ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(library.cuDeviceGet(ctypes.byref(handle), index), f"opening GPU {index}")
    _check(library.cuDeviceGetName(name, len(name), handle), f"reading the name of GPU {index}")
    major, minor, processors = (_attribute(library, handle, a) for a in (_MAJOR, _MINOR, _MULTIPROCESSORS))
    text = name.value.decode("utf-8", "replace")
    return TargetDevice(
        name=text,
        capability=f"{major}.{minor}",
        multiprocessors=processors,
        driver=driver_version() or f"CUDA {driver.cuda}",
    )


def _attribute(library: Any, handle: ctypes.c_int, attribute: int) -> int:
    value = ctypes.c_int()
    _check(library.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle), "reading the attributes of a GPU")
    return value.value


def _check(code: int, doing: str) -> None:
    if code == 2:
        raise BackendError(f"out of GPU memory while {doing}; stop other processes that use the GPU")
    if code:
        raise BackendError(f"{doing} failed with CUDA error {code}; run `nvidia-smi` to see the state of the GPU")
