"""What a manifest tells of a bundle's variants: whether one passed its gate on a backend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VARIANTS = "variants"  # key in the manifest's provenance: precision to what was measured of it


def passed_gate(provenance: Mapping[str, Any], precision: str, backend: str) -> bool:
    """Whether a precision may be used on a backend unasked: fp32 always, another where its gate held there."""
    if precision == "fp32":
        return True
    found: Any = provenance
    for key in (VARIANTS, precision, "gate", backend):
        found = found.get(key) if isinstance(found, Mapping) else None
    return isinstance(found, Mapping) and found.get("passed") is True
