"""Which backends there are, which of them can run here, and what `auto` takes."""

from __future__ import annotations

import importlib

from ...core.errors import BackendError, UsageError
from .base import Availability, Backend, BackendKind, Variant

# The order of `auto`; a module of this package each, which names its BackendKind `KIND`. It is fixed, so that
# the same bundle on the same machine never changes its backend by chance.
AUTO_ORDER = ("onnxruntime",)


def kind(name: str) -> BackendKind:
    """The backend of that name. Raises UsageError that lists the names there are."""
    if name not in AUTO_ORDER:
        raise UsageError(f"no backend named {name!r}; choose one of: auto, {', '.join(AUTO_ORDER)}")
    found = importlib.import_module(f".{name}", __package__).KIND
    assert isinstance(found, BackendKind)
    return found


def probe_all() -> list[Availability]:
    """Every backend in the order of `auto`, with what keeps it from running."""
    return [kind(name).probe() for name in AUTO_ORDER]


def choose(name: str) -> BackendKind:
    """The backend to load: the named one, or with `auto` the first that can run.

    Raises UsageError for an unknown name, BackendError saying what is missing.
    """
    candidates = [kind(n) for n in (AUTO_ORDER if name == "auto" else (name,))]
    refused = []
    for candidate in candidates:
        found = candidate.probe()
        if found.runs:
            return candidate
        refused.append(f"{found.backend} can't run: {found.reason}; {found.install}")
    raise BackendError("; ".join(refused))


def load(name: str, variant: Variant, threads: int) -> Backend:
    """Load `variant` on the backend that `choose` gives. Raises what `choose` does, and ModelError."""
    return choose(name).load(variant, threads)
