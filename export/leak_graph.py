"""Export of the leak encoder: noised -> scores, embedding, gates, step_weights."""

from __future__ import annotations

from ..core.errors import ModelError
from ..core.graphs import leak_encoder_graph
from ..core.spec import ModelSpec
from ..train.leak_encoder import LeakEncoder, PrototypeHead
from .torch_export import export_module


def export_leak_encoder(encoder: LeakEncoder, spec: ModelSpec) -> bytes:
    """Return the ONNX file of a trained leak encoder. Raises ModelError for an encoder without prototypes."""
    if not isinstance(encoder.head, PrototypeHead):
        raise ModelError("a run with a linear head can't be exported: it has no prototypes; train one with prototypes")
    return export_module(encoder, leak_encoder_graph(spec))
