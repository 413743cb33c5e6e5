"""What a manifest tells of a bundle's variants: whether one passed its gate on a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VARIANTS = "variants"  # key in the manifest's provenance: precision to what was measured of it
AUTO_SPEEDUP = 0.9  # over fp32, that `auto` asks of a variant: what is left under 1 is what timing scatters by
_HALF_FROM = (1, 32)  # the first ONNX Runtime that FP16 variants are judged on; 1.24 is wrong on some of them


def passed_gate(provenance: Mapping[str, Any], precision: str, backend: str) -> bool:
    """Whether a precision may be used on a backend unasked: fp32 always, another where its gate held there."""
    return precision == "fp32" or backend in gated_backends(provenance, precision)


def gated_backends(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """The backends on which a precision passed its gate, sorted; what is not of the format counts as not passed."""
    gates = _told(provenance, precision, "gate")
    measured = measured_backends(provenance, precision)
    return tuple(backend for backend in measured if gates[backend].get("passed") is True)


def measured_backends(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """The backends on which a precision met its gate, sorted, whether it passed or not."""
    gates = _told(provenance, precision, "gate")
    found = gates.items() if isinstance(gates, Mapping) else ()
    return tuple(sorted(backend for backend, gate in found if isinstance(gate, Mapping)))


def speedup(provenance: Mapping[str, Any], precision: str, backend: str) -> float:
    """How many times as fast as fp32 a precision was on a backend when it was made; 1 where nothing tells."""
    found = _told(provenance, precision, "gate", backend, "speedup")
    return float(found) if isinstance(found, (int, float)) and found > 0 else 1.0


def sure_speedup(provenance: Mapping[str, Any], precision: str, backend: str) -> float:
    """The lower end of what `speedup` may be with 95 % certainty; where no interval is told, `speedup` itself."""
    interval = _told(provenance, precision, "gate", backend, "speedup_interval")
    low = interval[0] if isinstance(interval, list) and len(interval) == 2 else None
    if isinstance(low, (int, float)) and low > 0:
        return float(low)
    return speedup(provenance, precision, backend)


def worth_taking(provenance: Mapping[str, Any], precision: str, backend: str) -> bool:
    """Whether `auto` may take a precision on a backend: its gate held there, and it was surely not slower than fp32.

    A slower one can still be named.
    """
    fast = precision == "fp32" or sure_speedup(provenance, precision, backend) >= AUTO_SPEEDUP
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
