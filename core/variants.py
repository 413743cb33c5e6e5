"""What a manifest tells of a bundle's variants: whether one passed its gate on a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VARIANTS = "variants"  # key in the manifest's provenance: precision to what was measured of it
_HALF_FROM = (1, 32)  # the first ONNX Runtime that FP16 variants are judged on; 1.24 is wrong on some of them


def passed_gate(provenance: Mapping[str, Any], precision: str, backend: str) -> bool:
    """Whether a precision may be used on a backend unasked: fp32 always, another where its gate held there."""
    return precision == "fp32" or backend in gated_backends(provenance, precision)


def gated_backends(provenance: Mapping[str, Any], precision: str) -> tuple[str, ...]:
    """The backends on which a precision passed its gate, sorted; what is not of the format counts as not passed."""
    found: Any = provenance
    for key in (VARIANTS, precision, "gate"):
        found = found.get(key) if isinstance(found, Mapping) else None
    gates = found.items() if isinstance(found, Mapping) else ()
    return tuple(sorted(b for b, gate in gates if isinstance(gate, Mapping) and gate.get("passed") is True))


def runs_half(version: str) -> bool:
    """Whether an ONNX Runtime of this version is one that FP16 variants are judged and run on."""
    parts = version.split(".")[:2]
    return all(part.isdecimal() for part in parts) and tuple(map(int, parts)) >= _HALF_FROM
