"""What the library says while it works: kept in bounds, and turned into one line when it fails."""

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

_KEPT = 64  # different messages kept of each kind
_WANTED = re.compile(
    r"(?:requested (?:size was|amount of gpu memory \()|memory allocation of size|trying to allocate|allocate)\s*"
    r"\(?(\d+)\)?(?: bytes)?",
    re.IGNORECASE,
)
_MEMORY = {"activations": "Total Activation Memory", "weights": "Total Weights Memory"}
_LAYERS = "Layers:"  # how the builder begins its list of the engine's layers
_LAYERS_LIMIT = 8 << 20
_making = threading.Lock()
_loggers: WeakKeyDictionary[Trt, ILogger] = WeakKeyDictionary()  # one a library
_heard = threading.local()  # `messages`: who listens in this thread
_listeners: dict[object, Messages] = {}  # who listens in any


@dataclass(kw_only=True)
class Messages:
    """The errors in order, the warnings counted, and what the builder states of memory and layers."""

    errors: list[str] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    memory: dict[str, int] = field(default_factory=dict)  # "activations", "weights": bytes, the largest stated
    layers: str = ""  # the builder's list of the engine's layers, for inspector.parse_build_log

    def add(self, severity: int, error: int, warning: int, *, text: str) -> None:
        """Keep one message; TensorRT counts severities downwards, `error` and `warning` are its own two."""
        if severity > warning and text.startswith(_LAYERS):
            self.layers = text[:_LAYERS_LIMIT]
            return
        text = " ".join(text.split())
        if severity <= error:
            if len(self.errors) < _KEPT:
                self.errors.append(text)
        elif severity == warning:
            if text in self.warnings or len(self.warnings) < _KEPT:
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
    """Let `messages` have what the libraries say in this thread meanwhile, and in threads of their own."""
    before, token = getattr(_heard, "messages", None), object()
    _heard.messages = _listeners[token] = messages
    try:
        yield messages
    finally:
        _heard.messages = before
        del _listeners[token]


def shared_logger(trt: Trt) -> ILogger:
    """The one ILogger that a process gives a library, for all that it makes; `listening` takes what it is told.

    A library takes a lock to make or free a Builder or Runtime, and logs under it when another logger is in use: in
    Python, where another thread may run and want that lock while it holds the GIL, for ever.
    """
    with _making:
        if trt not in _loggers:
            _loggers[trt] = _make_logger(trt)
        return _loggers[trt]


def construct(kind: Callable[[ILogger], Any], logger: ILogger) -> Any:
    """A Builder or Runtime; None where the library gives none, and `listening` then has the reason.

    Meanwhile no other is made here, and no garbage is collected: where somebody else's logger is in use, the
    constructor logs under the library's lock, and freeing an old one would wait for that for ever.
    """
    with _making:
        was = gc.isenabled()
        gc.disable()
        try:
            return kind(logger)
        except TypeError:  # pybind11's way of saying that the constructor gave nothing
            return None
        finally:
            if was:
                gc.enable()


def _make_logger(trt: Trt) -> ILogger:
    """Its base class is known only once the library is imported."""
    error, warning = int(trt.ILogger.Severity.ERROR), int(trt.ILogger.Severity.WARNING)

    class Router(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: int, msg: str) -> None:
            own = getattr(_heard, "messages", None)
            for messages in list(_listeners.values()) if own is None else [own]:
                messages.add(int(severity), error, warning, text=msg)

    return Router()


def explain(errors: Sequence[str]) -> str:
    """What went wrong and what to do, in one line, from the library's own messages."""
    lowered = " ".join(errors).lower()
    wanted = memory_wanted(errors)
    if wanted >= 0:
        amount = f": {wanted / 2**20:.0f} MiB were wanted" if wanted else ""
        return f"out of GPU memory{amount}; use a smaller --batch or --workspace, or end what else uses the GPU"
    if "driver version is insufficient" in lowered or "error: 35" in lowered or "cudaerror 35" in lowered:
        return _driver_problem()
    if "error: 100" in lowered or "no cuda-capable device" in lowered:
        return "no GPU is visible; check CUDA_VISIBLE_DEVICES and `nvidia-smi`"
    if "fp32 gemm is not supported" in lowered:
        return "the library can't multiply float32 matrices for compute capability 7.5; build --precision fp16 for it"
    if "within workspace limit" in lowered:
        return "no way to compute a layer fits in --workspace; give more, or leave it away to allow all there is"
    if not errors:
        return "the library gave no reason"
    return errors[0] if len(errors[0]) <= 300 else f"{errors[0][:297]}..."


def memory_wanted(errors: Sequence[str]) -> int:
    """Bytes that were wanted where the library ran out of GPU memory: 0 when it does not say; -1: it did not."""
    text = " ".join(errors)
    lowered = text.lower()
    if not any(words in lowered for words in ("out of memory", "outofmemory", "could not be allocated")):
        return -1
    return max(map(int, _WANTED.findall(text)), default=0)


def _driver_problem() -> str:
    """CUDA's error 35 means both that there is no driver and that it is older than the library's CUDA."""
    driver = find_driver()
    if driver.cuda:
        return (
            f"the NVIDIA driver supports CUDA up to {driver.cuda}, which is older than this library's; "
            "update the driver, or install the library's build for that CUDA"
        )
    return f"{driver.problem or 'no NVIDIA driver here'}; install the driver"
