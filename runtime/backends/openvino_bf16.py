"""The OpenVINO backend with the float layers of the VAE encoder in bfloat16, for CPUs with bfloat16 instructions.

bfloat16 has 8 bits of mantissa, float16 11. Its effect on verdicts depends on the bundle, so a variant runs here only
if it passed acceptance on this backend, and `auto` never selects it. The leak encoder (feature gates, attention pool,
prototypes and distances) stays float32. fp32 variants run as on the `openvino` backend, because a variant that returns
non-finite outputs falls back to fp32.
"""

from __future__ import annotations

from dataclasses import replace

from . import openvino
from .base import Availability, Backend, BackendKind, Variant, refuse_device
from .openvino_graph import open_core

NAME = "openvino_bf16"


class OpenVinoBf16Backend(openvino.OpenVinoBackend):
    """OpenVinoBackend with `vae_float` set to bf16."""

    name = NAME
    vae_float = "bf16"


def probe() -> Availability:
    """Return whether OpenVINO is installed and this CPU has bfloat16 instructions; emulation is far slower."""
    found = replace(openvino.probe(), backend=NAME)
    if not found.runs or "BF16" in open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return found
    return replace(
        found, runs=False, reason="this CPU has no bfloat16 instructions", install="use --backend openvino instead"
    )


def load(variant: Variant, threads: int, *, device: int = 0) -> Backend:
    """Load the variant. Raises ModelError, and UsageError for a non-zero `device`."""
    refuse_device(NAME, device)
    return OpenVinoBf16Backend(variant, threads)


KIND = BackendKind(NAME, probe, load)
