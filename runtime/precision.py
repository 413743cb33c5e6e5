"""Choose a bundle's precision and backend, and the next safer precision."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.bundle import PRECISIONS, Bundle
from ..core.errors import BundleError, UsageError
from ..core.variants import (
    NAMED_ONLY,
    accepted_backends,
    contradictions,
    measured_backends,
    passed_acceptance,
    refusal,
    runs_half,
    worth_taking,
)
from .backends import registry

SMALLEST_FIRST = tuple(reversed(PRECISIONS))  # int8, fp16, fp32: the order of `auto`, least safe first


@dataclass(frozen=True)
class Choice:
    """A precision and a backend, by name; `version` is that of the backend's library."""

    precision: str
    backend: str
    version: str


def choose(bundle: Bundle, backend: str, precision: str) -> list[Choice]:
    """Resolve `backend` and `precision` to at least one choice; to one per usable backend if `backend` is "fastest".

    A named precision must have passed its acceptance test on the backend. A refused variant that was kept is used only
    if it is named, on the backends on which it was measured. Precision "auto" is the smallest that passed and whose
    speedup over fp32 there is at least `AUTO_SPEEDUP` (0.9) at the lower end of its 95 % interval; otherwise fp32.
    (ONNX Runtime computes float16 more slowly than float32 on a CPU.) With backend "auto", the precision is chosen
    first: the smallest that any backend may run, on the first such backend in the fixed order.

    For TensorRT engines, a named precision may have passed on ONNX Runtime instead. Engines are built on this machine
    from the same graphs, and loading compares their golden image with the tolerance stated for ONNX Runtime.

    Raises UsageError for an unknown name, BackendError naming what is not installed, BundleError for a variant that is
    missing or has not passed its acceptance test.
    """
    if precision != "auto" and precision not in PRECISIONS:
        raise UsageError(f"no precision {precision!r}; choose one of: auto, {', '.join(PRECISIONS)}")
    if precision != "auto":
        bundle.require_precision(precision)
    present = [p for p in SMALLEST_FIRST if p in bundle.decisions and precision in ("auto", p)]
    free = backend in (registry.AUTO, registry.FASTEST)
    named = precision != "auto"
    measured = {name for p in present for name in _measured_on(bundle, p, named=named)}
    if free and not measured:
        raise BundleError(_problem(bundle, Choice(present[0], "any backend", ""), named=named))
    kinds = [kind.probe() for kind in registry.candidates(backend, measured=measured)]
    pairs = [
        Choice(p, k.backend, k.version)
        for p in present
        for k in kinds
        if not free or k.backend in _measured_on(bundle, p, named=named)
    ]
    usable = [pair for pair in pairs if not _problem(bundle, pair, named=named)]
    if precision == "auto":
        worth = [pair for pair in usable if worth_taking(bundle.provenance, pair.precision, pair.backend)]
        usable = worth or usable  # a bundle without fp32
    if not usable:
        raise BundleError("; ".join(_problem(bundle, pair, named=named) for pair in pairs))
    if backend != registry.FASTEST:
        return usable[:1]
    return list({pair.backend: pair for pair in reversed(usable)}.values())[::-1]  # the smallest on each


def safer_precision(bundle: Bundle, choice: Choice) -> str:
    """Return the next precision towards fp32 that may be used on the same backend; empty if there is none."""
    for precision in SMALLEST_FIRST[SMALLEST_FIRST.index(choice.precision) + 1 :]:
        usable = precision == "fp32" or not _problem(bundle, Choice(precision, choice.backend, choice.version))
        if precision in bundle.decisions and usable:
            return precision
    return ""


def _measured_on(bundle: Bundle, precision: str, *, named: bool) -> tuple[str, ...]:
    """Return the backends that a precision was measured on; for fp16 and int8, those it passed acceptance on.

    A refused variant has the backends that it was measured on if it is `named`, and none otherwise.
    """
    if precision == "fp32":
        return (registry.REFERENCE, *bundle.decisions[precision].tolerance)
    if named and refusal(bundle.provenance, precision):
        return measured_backends(bundle.provenance, precision)
    return accepted_backends(bundle.provenance, precision)


def _problem(bundle: Bundle, choice: Choice, *, named: bool = False) -> str:
    """Return why a precision in the bundle can't be used, or an empty string; `named`: whether its name was given."""
    precision, backend = choice.precision, choice.backend
    if precision == "fp32" and backend in NAMED_ONLY:
        return f"{bundle.path}: {backend} does not run fp32; use another backend"
    backends = (backend, registry.REFERENCE) if backend in registry.COMPILED else (backend,)
    kept = named and bool(refusal(bundle.provenance, precision))
    if kept and not set(backends) & set(measured_backends(bundle.provenance, precision)):
        return (
            f"{bundle.path}: {precision} was refused by its acceptance test, and was not measured on {backend}; "
            f"measure it with leakrt accept BUNDLE DATA --backend {backend} --precision {precision}, or use fp32"
        )
    if not kept and (contradicted := contradictions(bundle.provenance, precision)):
        return (
            f"{bundle.path}: the {precision} variant fails its own requirements ({'; '.join(contradicted)}); "
            "recreate it or use fp32"
        )
    if not kept and not any(passed_acceptance(bundle.provenance, precision, name) for name in backends):
        passed = ", ".join(accepted_backends(bundle.provenance, precision))
        recreate = f"recreate it with leakrt {'export' if precision == 'fp16' else 'calibrate'}"
        measure = f"test it with leakrt accept BUNDLE DATA --backend {backend} --precision {precision}"
        return (
            f"{bundle.path}: {precision} has not passed its acceptance test on {backend} "
            f"(passed on: {passed or 'none'}); "
            f"{measure if passed else recreate}, or use fp32"
        )
    if precision == "fp16" and backend == "onnxruntime" and not runs_half(choice.version):
        return (
            f"{bundle.path}: fp16 needs ONNX Runtime 1.32 or newer, but {choice.version} is installed; "
            "run pip install -U onnxruntime, or use another precision"
        )
    return ""
