"""The error tree.

LeakRTError
├── UsageError          an option or argument that can't be meant
├── DataError           a data set, folder or split that can't be used
│   └── ImageError      one image that can't be read or judged
├── BundleError         a bundle that is missing, broken, foreign or too new
├── CheckpointError     a training run that can't be read or resumed
├── ModelError          an encoder or graph with the wrong shape, names or operators
├── ParityError         an exported graph that does not agree with its source
├── BackendError        a backend that can't run here
│   └── OutOfMemoryError    a GPU whose memory is full
├── EngineError         an engine that can't be built, or is broken, foreign or not trusted
├── MissingExtraError   an optional package that is not installed
└── StorageError        a file that can't be written
"""

from __future__ import annotations

import re
from types import ModuleType

# "/FILE.h:23: adapt: Assertion `false` failed: " of ONNX, "/onnxruntime_src/FILE.cc:46 SIGNATURE(...) " of ONNX Runtime
_CPP_PLACE = re.compile(r"/\S+:\d+: \w+: Assertion `.*?` failed: |/onnxruntime_src/\S+:\d+ .*?\) ")
_LONGEST = 300


class LeakRTError(Exception):
    """Anything LeakRT refuses. The message is one line: what is wrong, where, and what to do."""


class UsageError(LeakRTError):
    """An option or argument that can't be meant."""


class DataError(LeakRTError):
    """A data set, folder or split that can't be used."""


class ImageError(DataError):
    """One image that can't be read or judged; the others of its folder go on."""


class BundleError(LeakRTError):
    """A bundle that is missing, broken, foreign or too new."""


class CheckpointError(LeakRTError):
    """A training run that can't be read or resumed."""


class ModelError(LeakRTError):
    """An encoder or graph with the wrong shape, names or operators."""


class ParityError(LeakRTError):
    """An exported graph that does not agree with the network it came from."""


class BackendError(LeakRTError):
    """A backend that can't run here."""


class OutOfMemoryError(BackendError):
    """A GPU's memory, or the host's page-locked memory, is full."""

    def __init__(self, wanted: int, what: str, *, free: int | None = None) -> None:
        """`wanted`: the bytes that were requested for `what`; 0 if that is not known. `free`: the bytes left."""
        left = "" if free is None else f" ({_mebibytes(free)} are free)"
        amount = f"{_mebibytes(wanted)} " if wanted else ""
        super().__init__(
            f"out of GPU memory while allocating {amount}for {what}{left}; use a smaller batch, or end other processes "
            "on the GPU"
        )
        self.wanted, self.what = wanted, what


class EngineError(LeakRTError):
    """An engine that can't be built, or is broken, foreign or not trusted."""


class MissingExtraError(LeakRTError):
    """An optional package that is not installed."""


class StorageError(LeakRTError):
    """A file that can't be written."""


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size < 100 << 20 else f"{size / 2**20:.0f} MiB"


def one_line(error: BaseException) -> str:
    """What a library's exception says, in one line of at most 300 characters; its type where it says nothing.

    Where in a C++ source it was raised is left out: it takes the room of the reason.
    """
    return _CPP_PLACE.sub("", " ".join(str(error).split()))[:_LONGEST] or type(error).__name__


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or raise MissingExtraError naming the extra that brings it."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed ({error}); install it with: pip install 'leakrt[{extra}]'"
        ) from error
