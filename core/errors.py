"""The error tree.

LeakRTError
├── UsageError          an invalid option or argument
├── DataError           a data set, folder or split that can't be used
│   └── ImageError      one image that can't be read or classified
├── BundleError         a bundle that is missing, damaged, invalid or too new
├── CheckpointError     a training run that can't be read or resumed
├── ModelError          an encoder or graph with the wrong shape, names or operators
├── ParityError         an exported graph whose outputs differ from its source's
├── BackendError        a backend that can't run here
│   └── OutOfMemoryError    a GPU whose memory is full
├── EngineError         an engine that can't be built, or is damaged, incompatible or not trusted
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
    """Base class of all errors. The message is one line: what failed, why, and what to do."""


class UsageError(LeakRTError):
    """An invalid option or argument."""


class DataError(LeakRTError):
    """A data set, folder or split that can't be used."""


class ImageError(DataError):
    """One image that can't be read or classified. The other images of its folder are still processed."""


class BundleError(LeakRTError):
    """A bundle that is missing, damaged, invalid or too new."""


class CheckpointError(LeakRTError):
    """A training run that can't be read or resumed."""


class ModelError(LeakRTError):
    """An encoder or graph with the wrong shape, names or operators."""


class ParityError(LeakRTError):
    """An exported graph whose outputs differ from those of its source network."""


class BackendError(LeakRTError):
    """A backend that can't run here."""


class OutOfMemoryError(BackendError):
    """A GPU's memory, or the host's page-locked memory, is full."""

    def __init__(self, wanted: int, what: str, *, free: int | None = None) -> None:
        """`wanted`: requested bytes, 0 if unknown. `what`: the purpose of the allocation. `free`: free bytes."""
        left = "" if free is None else f" ({_mebibytes(free)} are free)"
        amount = f"{_mebibytes(wanted)} " if wanted else ""
        super().__init__(
            f"out of GPU memory while allocating {amount}for {what}{left}; use a smaller batch, or end other processes "
            "on the GPU"
        )
        self.wanted, self.what = wanted, what


class EngineError(LeakRTError):
    """An engine that can't be built, or is damaged, incompatible or not trusted."""


class MissingExtraError(LeakRTError):
    """An optional package that is not installed."""


class StorageError(LeakRTError):
    """A file that can't be written."""


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f} MiB" if size < 100 << 20 else f"{size / 2**20:.0f} MiB"


def one_line(error: BaseException) -> str:
    """Return the message of a library's exception as one line of at most 300 characters, or its type if it has none.

    C++ source locations are removed: they would crowd out the reason.
    """
    return _CPP_PLACE.sub("", " ".join(str(error).split()))[:_LONGEST] or type(error).__name__


def require(module: str, extra: str) -> ModuleType:
    """Import and return `module`. Raises MissingExtraError with the command that installs `extra`."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"{module} is not installed ({error}); install it with: pip install 'leakrt[{extra}]'"
        ) from error
