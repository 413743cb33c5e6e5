"""Which precision of a bundle runs on which backend, and which one is safer."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.bundle import PRECISIONS, Bundle
from ..core.errors import BundleError, UsageError
from ..core.variants import NAMED_ONLY, contradictions, gated_backends, passed_gate, runs_half, worth_taking
from .backends import registry

SMALLEST_FIRST = tuple(reversed(PRECISIONS))  # int8, fp16, fp32: the order of `auto`, and from risky to safe


@dataclass(frozen=True)
class Choice:
    """A precision on a backend, by name; `version` is that of the backend's library."""

    precision: str
    backend: str
    version: str


def choose(bundle: Bundle, backend: str, precision: str) -> list[Choice]:
    """What `backend` and `precision` mean here, at least one choice; more than one where `fastest` is to race them.

    A named precision must have passed its gate on the backend; `auto` is the smallest that passed and is surely no
    slower than fp32 there (ONNX Runtime's CPU computes float16 slower), at last fp32. With backend `auto` the precision
    comes first: the smallest of those anywhere, on the first backend, in the fixed order, that may take it. For engines
    a named precision may have passed on ONNX Runtime instead: they are made here of the same graphs, and loading holds
    their golden image against the tolerance that was stated there.

    Raises UsageError for an unknown name, BackendError saying what is not installed, BundleError for a variant that is
    missing or never passed its gate.
    """
    if precision != "auto" and precision not in PRECISIONS:
        raise UsageError(f"no precision {precision!r}; choose one of: auto, {', '.join(PRECISIONS)}")
    if precision != "auto":
        bundle.require_precision(precision)
    present = [p for p in SMALLEST_FIRST if p in bundle.decisions and precision in ("auto", p)]
    free = backend in (registry.AUTO, registry.FASTEST)
    measured = {name for p in present for name in _measured_on(bundle, p)}
    if free and not measured:
        raise BundleError(_problem(bundle, Choice(present[0], "any backend", "")))
    kinds = [kind.probe() for kind in registry.candidates(backend, measured=measured)]
    pairs = [
        Choice(p, k.backend, k.version)
        for p in present
        for k in kinds
        if not free or k.backend in _measured_on(bundle, p)
    ]
    usable = [pair for pair in pairs if not _problem(bundle, pair)]
    if precision == "auto":
        worth = [pair for pair in usable if worth_taking(bundle.provenance, pair.precision, pair.backend)]
        usable = worth or usable  # a bundle without fp32
    if not usable:
        raise BundleError("; ".join(_problem(bundle, pair) for pair in pairs))
    if backend != registry.FASTEST:
        return usable[:1]
    return list({pair.backend: pair for pair in reversed(usable)}.values())[::-1]  # the smallest on each backend


def safer_precision(bundle: Bundle, choice: Choice) -> str:
    """The next precision towards fp32 that may be used on the same backend; empty when there is none."""
    for precision in SMALLEST_FIRST[SMALLEST_FIRST.index(choice.precision) + 1 :]:
        usable = precision == "fp32" or not _problem(bundle, Choice(precision, choice.backend, choice.version))
        if precision in bundle.decisions and usable:
            return precision
    return ""


def _measured_on(bundle: Bundle, precision: str) -> tuple[str, ...]:
    """The backends that a precision was measured on, and passed where it has a gate to pass."""
    if precision == "fp32":
        return (registry.REFERENCE, *bundle.decisions[precision].tolerance)
    return gated_backends(bundle.provenance, precision)


def _problem(bundle: Bundle, choice: Choice) -> str:
    """Why a precision that is there can't be used; empty when it can."""
    precision, backend = choice.precision, choice.backend
    if precision == "fp32" and backend in NAMED_ONLY:
        return f"{bundle.path}: {backend} runs no fp32 of its own; take another backend for it"
    if contradicted := contradictions(bundle.provenance, precision):
        return f"{bundle.path}: its {precision} variant is none ({'; '.join(contradicted)}); make it anew, or take fp32"
    gated = (backend, registry.REFERENCE) if backend in registry.COMPILED else (backend,)
    if not any(passed_gate(bundle.provenance, precision, name) for name in gated):
        passed = ", ".join(gated_backends(bundle.provenance, precision))
        make = "make it anew with leakrt export" if precision == "fp16" else "make it anew with leakrt calibrate"
        measure = f"measure it: leakrt gate BUNDLE DATA --backend {backend} --precision {precision}"
        return (
            f"{bundle.path}: {precision} never passed its gate on {backend} (on: {passed or 'none'}); "
            f"{measure if passed else make}, or take fp32"
        )
    if precision == "fp16" and backend == "onnxruntime" and not runs_half(choice.version):
        return (
            f"{bundle.path}: fp16 needs ONNX Runtime 1.32 or newer, this is {choice.version}; "
            "pip install -U onnxruntime, or take another precision"
        )
    return ""
