"""Which backends there are, which of them can run here, what `auto` takes, and the race of `fastest`."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Collection, Mapping

from ...core.errors import BackendError, UsageError
from ...core.variants import NAMED_ONLY
from .base import Availability, Backend, BackendKind, Variant

# The order of `auto`; a module of this package each, which names its BackendKind `KIND`. It is fixed, so that
# the same bundle on the same machine never changes its backend by chance.
AUTO_ORDER = ("tensorrt", "tensorrt_rtx", "openvino", "onnxruntime", "torch")
REFERENCE = "onnxruntime"  # every bundle was measured on it
COMPILED = ("tensorrt", "tensorrt_rtx")  # they run engines that were made on this machine, of the bundle's graphs
AUTO, FASTEST = "auto", "fastest"
_LAPS, _FEWEST_LAPS, _MAX_SECONDS = 11, 3, 5.0  # of a race: slow graphs have run often enough after so long


def kind(name: str) -> BackendKind:
    """The backend of that name. Raises UsageError that lists the names there are."""
    known = (*AUTO_ORDER, *NAMED_ONLY)
    if name not in known:
        raise UsageError(f"no backend named {name!r}; choose one of: {', '.join((AUTO, FASTEST, *known))}")
    found = importlib.import_module(f".{name}", __package__).KIND
    assert isinstance(found, BackendKind)
    return found


def probe_all() -> list[Availability]:
    """Every backend in the order of `auto`, then those that must be named, with what keeps each from running."""
    return [kind(name).probe() for name in (*AUTO_ORDER, *NAMED_ONLY)]


def candidates(name: str, *, measured: Collection[str] = (REFERENCE,)) -> list[BackendKind]:
    """The backends that `name` may mean and that run here, in the order of `auto`; at least one.

    `auto` and `fastest` mean those that the bundle was `measured` on, any other name itself. Raises UsageError for an
    unknown name, BackendError saying what is missing.
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
        raise BackendError("; ".join(refused) or f"no backend is known that the bundle was measured on ({measured})")
    return found


def choose(name: str, *, measured: Collection[str] = (REFERENCE,)) -> BackendKind:
    """The backend to load: the first of `candidates`. Raises what that does."""
    return candidates(name, measured=measured)[0]


def load(name: str, variant: Variant, threads: int, *, device: int = 0) -> Backend:
    """Load `variant` on the backend that `choose` gives, on GPU number `device` where it runs on GPUs.

    Raises what `choose` does, ModelError, EngineError, and UsageError for a GPU's number where it does not.
    """
    return choose(name).load(variant, threads, device=device)


def race(entrants: Mapping[str, Callable[[], object]]) -> str:
    """The name of the quickest by the median of 11 runs each (3, where 5 s have passed), in turn under the same load.

    Each timed run follows one of the same entrant that isn't timed, since threads of the one before may still spin and
    its data fill the caches; and the order alternates, so that a load that grows or falls favours none. For int8 of
    LeakBench on two threads and idle cores this named the quicker backend in 38 of 40 races. The shortest of five
    single runs each did in 21 of 40: now and then a run meets no spinning thread, and that one decided.
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
