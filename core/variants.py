"""What a manifest tells of a bundle's variants: whether one passed its gate on a backend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .gates import UNCHANGED, Comparison, Speedup, comparison_of, gate_holds, share_failures, speed_failures

VARIANTS = "variants"  # key in the manifest's provenance: precision to what was measured of it
NAMED_ONLY = ("openvino_bf16",)  # backends that are never `auto` nor `fastest`: what they bring is none of int8's
_HALF_FROM = (1, 32)  # the first ONNX Runtime that FP16 variants are judged on; 1.24 is wrong on some of them


def passed_gate(provenance: Mapping[str, Any], precision: str, backend: str) -> bool:
    """Whether a precision may be used on a backend unasked: fp32 always, another where its gate held there."""
    return precision == "fp32" or backend in gated_backends(provenance, precision)


def gated_backends(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """The backends on which a precision passed its gate, sorted; what is not of the format counts as not passed.

    A manifest may have been changed by hand: a gate whose figures contradict it did not pass, and what by its own
    figures is no int8 variant passed nowhere.
    """
    if contradictions(provenance, precision):
        return ()
    gates = _told(provenance, precision, "gate")
    measured = measured_backends(provenance, precision)
    return tuple(backend for backend in measured if gate_holds(precision, gates[backend]))


def contradictions(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """Why the int8 variant is none by what the manifest tells of it; empty where it has no gate, and of others.

    What the manifest leaves out speaks against it: without its share or its time it is none.
    """
    measured = measured_backends(provenance, precision)
    if precision != "int8" or not measured:
        return ()
    share = _told(provenance, precision, "int8_share")
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    times = [speedup(provenance, precision, name) for name in measured if name not in NAMED_ONLY]
    return (*share_failures(share if number else math.nan), *speed_failures(times or [UNCHANGED]))


def measured_backends(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """The backends on which a precision met its gate, sorted, whether it passed or not."""
    gates = _told(provenance, precision, "gate")
    found = gates.items() if isinstance(gates, Mapping) else ()
    return tuple(sorted(backend for backend, gate in found if isinstance(gate, Mapping)))


def speedup(provenance: Mapping[str, Any], precision: str, backend: str) -> Speedup:
    """How many times as fast as fp32 a precision was on a backend when it was made; 1 where nothing tells."""
    gate = _told(provenance, precision, "gate", backend)
    return Speedup.from_json(gate) if isinstance(gate, Mapping) else UNCHANGED


def comparison(provenance: Mapping[str, Any], precision: str, backend: str) -> Comparison | None:
    """What a precision was on a backend beside fp32 when it was made; None where nothing tells."""
    gate = _told(provenance, precision, "gate", backend)
    return comparison_of(gate) if isinstance(gate, Mapping) else None


def worth_taking(provenance: Mapping[str, Any], precision: str, backend: str) -> bool:
    """Whether `auto` may take a precision on a backend: its gate held there, and it was surely not slower than fp32.

    A slower one can still be named.
    """
    fast = precision == "fp32" or not speedup(provenance, precision, backend).may_be_slower
    return fast and passed_gate(provenance, precision, backend)


def runs_half(version: str) -> bool:
    """Whether an ONNX Runtime of this version is one that FP16 variants are judged and run on."""
    parts = version.split(".")[:2]
    return all(part.isdecimal() for part in parts) and tuple(map(int, parts)) >= _HALF_FROM


def _told(provenance: Mapping[str, Any], precision: str, *keys: str) -> Any:
    """What the manifest holds there; None where it holds nothing."""
    found: Any = provenance
    for key in (VARIANTS, precision, *keys):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
