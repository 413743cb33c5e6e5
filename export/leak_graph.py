"""Export of the leak encoder: noised -> scores, embedding, gates, step_weights."""

from __future__ import annotations

from ..core.errors import ModelError
from ..core.graphs import leak_encoder_graph
from ..core.spec import ModelSpec
from ..train.two_branches import Encoder, has_prototypes
from .torch_export import export_module


def export_leak_encoder(encoder: Encoder, spec: ModelSpec) -> bytes:
    """Return the ONNX file of a trained leak encoder. Raises ModelError for an encoder without prototypes."""
    if not has_prototypes(encoder):
        raise ModelError("a run with a linear head can't be exported: it has no prototypes; train one with prototypes")
    return export_module(encoder, leak_encoder_graph(spec))
