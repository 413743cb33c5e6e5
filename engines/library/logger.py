"""Collect the log messages of a library, and turn them into a one-line explanation of a failure."""

from __future__ import annotations

import gc
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from .device import find_driver
from .names import ILogger, Trt

_MAX_MESSAGES = 64  # distinct messages of each severity
_REQUESTED_BYTES = re.compile(
    r"(?:requested (?:size was|amount of gpu memory \()|memory allocation of size|trying to allocate|allocate)\s*"
    r"\(?(\d+)\)?(?: bytes)?",
    re.IGNORECASE,
)
_MEMORY = {"activations": "Total Activation Memory", "weights": "Total Weights Memory"}
_LAYERS = "Layers:"  # prefix of the message that lists the layers of the engine
_LAYERS_LIMIT = 8 << 20  # characters
_construct_lock = threading.Lock()
_loggers: WeakKeyDictionary[Trt, ILogger] = WeakKeyDictionary()  # one per library
_local = threading.local()  # `messages`: the collector of this thread
_listeners: dict[object, Messages] = {}  # the collectors of all threads


@dataclass(kw_only=True)
class Messages:
    """Collected messages: errors in order, warnings with counts, and the builder's memory use and layers."""

    errors: list[str] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    memory: dict[str, int] = field(default_factory=dict)  # "activations", "weights": bytes, the largest value reported
    layers: str = ""  # the message that lists the layers, for `layers.parse_build_log`

    def add(self, severity: int, error: int, warning: int, *, text: str) -> None:
        """Add a message. A lower severity is more severe; `error` and `warning` are TensorRT's two values."""
        if severity > warning and text.startswith(_LAYERS):
            self.layers = text[:_LAYERS_LIMIT]
            return
        text = " ".join(text.split())
        if severity <= error:
            if len(self.errors) < _MAX_MESSAGES:
                self.errors.append(text)
        elif severity == warning:
            if text in self.warnings or len(self.warnings) < _MAX_MESSAGES:
                self.warnings[text] += 1
        else:
            self._read_memory(text)

    def _read_memory(self, text: str) -> None:
        for kind, words in _MEMORY.items():
            found = re.match(rf"{words}: (\d+) bytes", text)
            if found:
                self.memory[kind] = max(self.memory.get(kind, 0), int(found.group(1)))


@contextmanager
def listening(messages: Messages) -> Iterator[Messages]:
    """Collect the log messages of this thread, and of threads that the libraries start, in `messages`."""
    before, token = getattr(_local, "messages", None), object()
    _local.messages = _listeners[token] = messages
    try:
        yield messages
    finally:
        _local.messages = before
        del _listeners[token]


def shared_logger(trt: Trt) -> ILogger:
    """Return the process-wide ILogger of a library. `listening` collects its messages.

    A second logger could deadlock: the library holds a lock while it creates or frees a Builder or Runtime, and logs a
    warning if the logger differs. Logging needs the GIL, which a thread that waits for the lock may hold.
    """
    with _construct_lock:
        if trt not in _loggers:
            _loggers[trt] = _make_logger(trt)
        return _loggers[trt]


def construct(kind: Callable[[ILogger], Any], logger: ILogger) -> Any:
    """Create a Builder or Runtime. Returns None on failure, with the reason in the messages of `listening`.

    Only one thread constructs at a time, and garbage collection is paused. If other code uses its own logger, the
    constructor logs while it holds the library's lock, and freeing an old object at that point would deadlock.
    """
    with _construct_lock:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            return kind(logger)
        except TypeError:  # pybind11 raises it if the constructor returned null
            return None
        finally:
            if was_enabled:
                gc.enable()


def _make_logger(trt: Trt) -> ILogger:
    """Create a logger. Its base class exists only after the library is imported."""
    error, warning = int(trt.ILogger.Severity.ERROR), int(trt.ILogger.Severity.WARNING)

    class Router(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: int, msg: str) -> None:
            own = getattr(_local, "messages", None)
            for messages in list(_listeners.values()) if own is None else [own]:
                messages.add(int(severity), error, warning, text=msg)

    return Router()


def explain(errors: Sequence[str]) -> str:
    """Return one line with the cause of a failure and its remedy, from the error messages of a library."""
    lowered = " ".join(errors).lower()
    wanted = memory_wanted(errors)
    if wanted >= 0:
        amount = f": {wanted / 2**20:.0f} MiB requested" if wanted else ""
        return (
            f"out of GPU memory{amount}; use a smaller --batch or --workspace, or stop other processes that use the GPU"
        )
    if "driver version is insufficient" in lowered or "error: 35" in lowered or "cudaerror 35" in lowered:
        return _driver_problem()
    if "error: 100" in lowered or "no cuda-capable device" in lowered:
        return "no GPU is visible; check CUDA_VISIBLE_DEVICES and `nvidia-smi`"
    if "fp32 gemm is not supported" in lowered:
        return "the library can't multiply float32 matrices for compute capability 7.5; build it with --precision fp16"
    if "within workspace limit" in lowered:
        return "no implementation of a layer fits in --workspace; increase it, or omit it to remove the limit"
    if not errors:
        return "the library gave no reason"
    return errors[0] if len(errors[0]) <= 300 else f"{errors[0][:297]}..."


def memory_wanted(errors: Sequence[str]) -> int:
    """Return the bytes of a failed GPU allocation: 0 if unknown, -1 if the library didn't run out of memory."""
    text = " ".join(errors)
    lowered = text.lower()
    if not any(words in lowered for words in ("out of memory", "outofmemory", "could not be allocated")):
        return -1
    return max(map(int, _REQUESTED_BYTES.findall(text)), default=0)


def _driver_problem() -> str:
    """Explain CUDA error 35, which means either no driver or one that is too old for the library's CUDA."""
    driver = find_driver()
    if driver.cuda:
        return (
            f"the NVIDIA driver supports CUDA up to {driver.cuda}, but this library needs a newer version; "
            "update the driver, or install the library for that CUDA version"
        )
    return f"{driver.problem or 'no NVIDIA driver here'}; install the driver"
