"""The known backends, the order in which `auto` selects them, and the timing behind `fastest`."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Collection, Mapping

from ...core.errors import BackendError, UsageError
from ...core.variants import NAMED_ONLY
from .base import Availability, Backend, BackendKind, Variant

# The order of `auto`. Each is a module of this package that exports its BackendKind as `KIND`. The order is fixed, so
# that a bundle always runs on the same backend on the same machine.
AUTO_ORDER = ("tensorrt", "tensorrt_rtx", "openvino", "onnxruntime", "torch")
REFERENCE = "onnxruntime"  # every bundle is measured on it
COMPILED = ("tensorrt", "tensorrt_rtx")  # these run engines that were built from the bundle's graphs
AUTO, FASTEST = "auto", "fastest"
_LAPS, _FEWEST_LAPS, _MAX_SECONDS = 11, 3, 5.0  # of a race; slow graphs stop after _MAX_SECONDS


def kind(name: str) -> BackendKind:
    """Return the backend of that name. Raises UsageError that lists the known names."""
    known = (*AUTO_ORDER, *NAMED_ONLY)
    if name not in known:
        raise UsageError(f"no backend named {name!r}; choose one of: {', '.join((AUTO, FASTEST, *known))}")
    found = importlib.import_module(f".{name}", __package__).KIND
    assert isinstance(found, BackendKind)
    return found


def probe_all() -> list[Availability]:
    """Probe every backend: first those of `auto` in its order, then those that must be named."""
    return [kind(name).probe() for name in (*AUTO_ORDER, *NAMED_ONLY)]


def candidates(name: str, *, measured: Collection[str] = (REFERENCE,)) -> list[BackendKind]:
    """Return the backends that `name` stands for and that can run here, in the order of `auto`; at least one.

    `auto` and `fastest` stand for the backends that the bundle was `measured` on. Raises UsageError for an unknown
    name, and BackendError with the reasons if none can run.
    """
    meant = [n for n in AUTO_ORDER if n in measured] if name in (AUTO, FASTEST) else [name]
    found, refused = [], []
    for candidate in map(kind, meant):
        availability = candidate.probe()
        if availability.runs:
            found.append(candidate)
        else:
            refused.append(f"{candidate.name} can't run: {availability.reason}; {availability.install}")
    if not found:
        names = ", ".join(measured)
        raise BackendError("; ".join(refused) or f"no known backend among those the bundle was measured on: {names}")
    return found


def choose(name: str, *, measured: Collection[str] = (REFERENCE,)) -> BackendKind:
    """Return the first of `candidates`; raises the same errors."""
    return candidates(name, measured=measured)[0]


def load(name: str, variant: Variant, threads: int, *, device: int = 0) -> Backend:
    """Load `variant` on the backend that `choose` returns; `device` is a GPU's number, for backends that run on GPUs.

    Raises the errors of `choose`, ModelError, EngineError, and UsageError for a non-zero `device` on a CPU backend.
    """
    return choose(name).load(variant, threads, device=device)


def race(entrants: Mapping[str, Callable[[], object]]) -> str:
    """Return the name of the entrant with the lowest median time over 11 runs, or over 3 once 5 s have passed.

    An untimed run of the same entrant precedes each timed run, because the previous entrant's threads may still spin
    and its data fill the caches. The order alternates, so that a rising or falling load favours none.
    """
    times: dict[str, list[float]] = {name: [] for name in entrants}
    start = time.perf_counter()
    for lap in range(_LAPS):
        if lap >= _FEWEST_LAPS and time.perf_counter() - start >= _MAX_SECONDS:
            break
        for name in list(entrants)[:: 1 if lap % 2 == 0 else -1]:
            entrants[name]()
            begin = time.perf_counter()
            entrants[name]()
            times[name].append(time.perf_counter() - begin)
    return min(times, key=lambda name: statistics.median(times[name]))
