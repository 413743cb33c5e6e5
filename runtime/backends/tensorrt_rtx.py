"""The `tensorrt_rtx` backend: `tensorrt` with TensorRT-RTX engines, which may be built on another machine."""

from __future__ import annotations

from .base import Availability, Backend, BackendKind, Variant
from .tensorrt.kind import load_engines, probe_flavour

NAME = "tensorrt_rtx"
_FLAVOUR = "tensorrt-rtx"


def load(variant: Variant, threads: int, *, device: int = 0) -> Backend:
    """Load the variant's engines from the cache on GPU number `device`; raises the errors of `tensorrt.load`."""
    return load_engines(NAME, _FLAVOUR, variant, threads=threads, number=device)


def probe() -> Availability:
    """Return whether TensorRT-RTX, PyCUDA, LeakRT's kernels and a driver are available."""
    return probe_flavour(NAME, _FLAVOUR)


KIND = BackendKind(NAME, probe, load)
