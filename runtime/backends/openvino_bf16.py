"""OpenVINO with the float layers of the VAE encoder in bfloat16, on CPUs that compute it.

bfloat16 has 8 bits of mantissa, float16 11: what it does to verdicts is a matter of the bundle, so a variant runs here
only where its gate held on this backend, and `auto` never takes it. The leak encoder, which holds gates, attention
pool, prototypes and distances, stays float32. So does fp32, which is then what OpenVINO's own backend gives: the
finite check falls back to it.
"""

from __future__ import annotations

from dataclasses import replace

from . import openvino
from .base import Availability, Backend, BackendKind, Variant, refuse_device
from .openvino_graph import open_core

NAME = "openvino_bf16"


class OpenVinoBf16Backend(openvino.OpenVinoBackend):
    """See the module; loads, runs and raises as OpenVinoBackend does."""

    name = NAME
    vae_float = "bf16"


def probe() -> Availability:
    """Whether OpenVINO is installed and this CPU has instructions for bfloat16: without them it is far slower."""
    found = replace(openvino.probe(), backend=NAME)
    if not found.runs or "BF16" in open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return found
    return replace(
        found, runs=False, reason="this CPU does not compute bfloat16", install="take --backend openvino instead"
    )


def load(variant: Variant, threads: int, *, device: int = 0) -> Backend:
    """Load the variant. Raises ModelError, UsageError for a GPU's number."""
    refuse_device(NAME, device)
    return OpenVinoBf16Backend(variant, threads)


KIND = BackendKind(NAME, probe, load)
