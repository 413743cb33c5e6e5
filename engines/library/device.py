"""The NVIDIA GPUs of this machine, asked of the driver itself, so that no CUDA package is needed to name them."""

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
_ERRORS = {3: "the driver is shutting down", 100: "no NVIDIA GPU is visible", 803: "driver and library differ"}
_REMEDIES = {100: "check CUDA_VISIBLE_DEVICES and `nvidia-smi`", 803: "restart the machine"}
_VERSION_FILE = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True, kw_only=True)
class TargetDevice:
    """What an engine is bound to. All empty: no device, for engines that are made for a list of capabilities."""

    name: str = ""
    capability: str = ""  # compute capability, such as "8.9"
    multiprocessors: int = 0  # a slice of a GPU has its name but fewer of them
    driver: str = ""  # the driver's version, else the CUDA version it supports


NO_DEVICE = TargetDevice()


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A visible GPU with what an engine does not depend on."""

    index: int  # what --device takes
    device: TargetDevice
    memory: int  # bytes
    integrated: bool  # it shares the host's memory, as on a Jetson


@dataclass(frozen=True, kw_only=True)
class Driver:
    """The driver found, or why there is none."""

    library: Any  # ctypes.CDLL, or None
    problem: str
    cuda: str  # highest CUDA version it supports, such as "12.4"
    code: int = 0  # CUDA's error, where its start failed


@lru_cache(maxsize=1)
def find_driver() -> Driver:
    """Load the driver's library and start it, once a process. Raises nothing."""
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
        reason = _ERRORS.get(code, f"its start failed with CUDA error {code}")
        return Driver(library=None, problem=f"the NVIDIA driver can't be used: {reason}", cuda=cuda, code=code)
    return Driver(library=library, problem="", cuda=cuda)


def list_devices() -> list[TargetDevice]:
    """Every visible GPU, in the driver's order; empty where there is no driver. Raises BackendError."""
    driver = find_driver()
    if driver.library is None:
        return []
    count = ctypes.c_int()
    _check(driver.library.cuDeviceGetCount(ctypes.byref(count)), "counting the GPUs")
    return [_describe(driver, index) for index in range(count.value)]


def list_gpus() -> list[Gpu]:
    """`list_devices`, each with its memory. Raises BackendError."""
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
    """Such as 550.54.15; empty where the kernel does not tell (some Jetsons)."""
    try:
        return parse_driver_version(_VERSION_FILE.read_text())
    except OSError:
        return ""


def parse_driver_version(text: str) -> str:
    """The version in /proc/driver/nvidia/version; empty where that names none, as on Thor ("TempVersion")."""
    found = re.search(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)", text)
    return found.group(1) if found else ""


def find_device(index: int) -> TargetDevice:
    """The GPU with this number. Raises BackendError that says why there is none, or which there are."""
    driver = find_driver()
    if driver.library is None:
        what = _REMEDIES.get(driver.code, "`nvidia-smi` shows its state") if driver.cuda else "install the driver"
        raise BackendError(f"{driver.problem}; {what}")
    devices = list_devices()
    if 0 <= index < len(devices):
        return devices[index]
    listed = ", ".join(f"{i}: {device.name}" for i, device in enumerate(devices)) or "none"
    raise BackendError(f"--device {index}: no such GPU; this machine has {listed}")


@contextmanager
def use_device(index: int) -> Iterator[None]:
    """Make the primary context of a GPU current in this thread, where TensorRT then builds. Raises BackendError."""
    find_device(index)
    library = find_driver().library
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    _check(library.cuDeviceGet(ctypes.byref(handle), index), f"opening GPU {index}")
    _check(library.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle), f"making a context on GPU {index}")
    try:
        _check(library.cuCtxPushCurrent_v2(context), f"selecting GPU {index}")
        try:
            yield
        finally:
            pop_context()
    finally:
        library.cuDevicePrimaryCtxRelease_v2(handle)


def current_context() -> int:
    """The context that is current in this thread; 0: none, or no driver."""
    library, context = find_driver().library, ctypes.c_void_p()
    if library is not None:
        _check(library.cuCtxGetCurrent(ctypes.byref(context)), "asking for the current context")
    return context.value or 0


def pop_context() -> None:
    """Make the context below the current one current in this thread again."""
    find_driver().library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))


def _describe(driver: Driver, index: int) -> TargetDevice:
    library, handle, name = driver.library, ctypes.c_int(), ctypes.create_string_buffer(256)
    _check(library.cuDeviceGet(ctypes.byref(handle), index), f"opening GPU {index}")
    _check(library.cuDeviceGetName(name, len(name), handle), f"naming GPU {index}")
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
    _check(library.cuDeviceGetAttribute(ctypes.byref(value), attribute, handle), "reading a GPU's properties")
    return value.value


def _check(code: int, doing: str) -> None:
    if code == 2:
        raise BackendError(f"out of GPU memory while {doing}; end what else uses the GPU")
    if code:
        raise BackendError(f"{doing} failed with CUDA error {code}; `nvidia-smi` shows the state of the GPU")
