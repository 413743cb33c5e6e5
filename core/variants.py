"""Acceptance results of a bundle's variants, read from the manifest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .acceptance import UNCHANGED, Comparison, Speedup, acceptance_holds, comparison_of, share_failures, speed_failures

VARIANTS = "variants"  # key in the manifest's provenance: precision to its measurements
REFUSED = "refused"  # key of a precision's measurements: why its acceptance test refused it
NAMED_ONLY = ("openvino_bf16",)  # never `auto` or `fastest`; their speed does not count for int8
_HALF_FROM = (1, 32)  # oldest ONNX Runtime for FP16 variants; 1.24 computes some of them incorrectly


def passed_acceptance(provenance: Mapping[str, Any], precision: str, backend: str) -> bool:
    """Return whether a precision may be used on a backend by default: fp32, or one that passed acceptance there."""
    return precision == "fp32" or backend in accepted_backends(provenance, precision)


def accepted_backends(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """Return the backends on which a precision passed acceptance, sorted.

    A manifest may have been edited by hand: an invalid record, or one whose figures contradict its result, counts as
    failed. A refused variant, and an int8 variant that fails its own requirements (`contradictions`), passed on no
    backend.
    """
    if refusal(provenance, precision) or contradictions(provenance, precision):
        return ()
    gates = _lookup(provenance, precision, "gate")
    measured = measured_backends(provenance, precision)
    return tuple(backend for backend in measured if acceptance_holds(precision, gates[backend]))


def refusal(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """Return why the acceptance test refused a variant that was kept all the same; empty if it was not refused."""
    reasons = _lookup(provenance, precision, REFUSED)
    if reasons is None or reasons == []:
        return ()
    if isinstance(reasons, list) and all(isinstance(why, str) for why in reasons):
        return tuple(reasons)
    return ("the manifest does not say why",)


def refusal_notes(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """Return the note that every verdict of a refused variant carries; empty for any other variant."""
    reasons = refusal(provenance, precision)
    return (f"the {precision} variant was refused by its acceptance test: {'; '.join(reasons)}",) if reasons else ()


def contradictions(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """Return why the int8 variant fails its own requirements, which are its int8 share and its speed.

    Empty if it meets them, for other precisions, and for a variant without acceptance records. A missing share or
    time counts as a failure.
    """
    measured = measured_backends(provenance, precision)
    if precision != "int8" or not measured:
        return ()
    share = _lookup(provenance, precision, "int8_share")
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    times = [speedup(provenance, precision, name) for name in measured if name not in NAMED_ONLY]
    return (*share_failures(share if number else math.nan), *speed_failures(times or [UNCHANGED]))


def measured_backends(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """Return the backends on which a precision was tested for acceptance, sorted, whether it passed or not."""
    gates = _lookup(provenance, precision, "gate")
    found = gates.items() if isinstance(gates, Mapping) else ()
    return tuple(sorted(backend for backend, gate in found if isinstance(gate, Mapping)))


def speedup(provenance: Mapping[str, Any], precision: str, backend: str) -> Speedup:
    """Return a precision's recorded speedup over fp32 on a backend; `UNCHANGED` (1.0) if there is none."""
    gate = _lookup(provenance, precision, "gate", backend)
    return Speedup.from_json(gate) if isinstance(gate, Mapping) else UNCHANGED


def comparison(provenance: Mapping[str, Any], precision: str, backend: str) -> Comparison | None:
    """Return a precision's recorded comparison with fp32 on a backend; None if there is none."""
    gate = _lookup(provenance, precision, "gate", backend)
    return comparison_of(gate) if isinstance(gate, Mapping) else None


def worth_taking(provenance: Mapping[str, Any], precision: str, backend: str) -> bool:
    """Return whether `auto` may select a precision on a backend.

    It must have passed acceptance there and, with 95 % confidence, not be slower than fp32. A slower variant is used
    only if it is named.
    """
    fast = precision == "fp32" or not speedup(provenance, precision, backend).may_be_slower
    return fast and passed_acceptance(provenance, precision, backend)


def runs_half(version: str) -> bool:
    """Return whether FP16 variants run on this version of ONNX Runtime."""
    parts = version.split(".")[:2]
    return all(part.isdecimal() for part in parts) and tuple(map(int, parts)) >= _HALF_FROM


def _lookup(provenance: Mapping[str, Any], precision: str, *keys: str) -> Any:
    """Return the manifest's value at `keys`; None if there is none."""
    found: Any = provenance
    for key in (VARIANTS, precision, *keys):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
