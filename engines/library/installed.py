"""Import the installed TensorRT libraries and select the dialect of each."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from ...core.errors import BackendError, MissingExtraError, UsageError
from .flavour import FLAVOURS, Flavour, version_numbers
from .names import Trt
from .rtx import TensorRTRTX
from .tensorrt8 import TensorRT8
from .tensorrt10 import TensorRT10

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_INSTALL = {
    "tensorrt": "on a Jetson install python3-libnvinfer and create the environment with --system-site-packages; "
    "elsewhere: pip install tensorrt",
    "tensorrt-rtx": "install it with: pip install 'leakrt[rtx]'",
}


def load_flavour(name: str) -> Flavour:
    """Import a TensorRT library. Raises UsageError (no such flavour), MissingExtraError, BackendError (version)."""
    if name not in FLAVOURS:
        raise UsageError(f"unknown flavour {name!r}; choose one of: {', '.join(FLAVOURS)}")
    try:
        trt: Trt = importlib.import_module(MODULES[name])
    except (ImportError, OSError) as error:  # OSError: the bindings are installed without their libraries
        raise MissingExtraError(f"can't import {MODULES[name]}: {error}; {_INSTALL[name]}") from error
    return _dialect(name, str(trt.__version__))(trt, str(trt.__version__))


def installed_flavours() -> list[Flavour]:
    """Return the flavours that can be imported and are supported, in the order of FLAVOURS."""
    found = []
    for name in FLAVOURS:
        try:
            found.append(load_flavour(name))
        except (MissingExtraError, BackendError):
            continue
    return found


def _dialect(name: str, version: str) -> Callable[[Trt, str], Flavour]:
    if name == "tensorrt-rtx":
        return TensorRTRTX
    numbers = version_numbers(version)
    if numbers[:1] in ((10,), (11,)):
        return TensorRT10
    if numbers[:2] in ((8, 5), (8, 6)):
        return TensorRT8
    raise BackendError(f"TensorRT {version} is not supported; install 8.5, 8.6, 10 or 11")
