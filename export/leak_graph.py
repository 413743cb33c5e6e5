"""The leak encoder as a graph: noised -> scores, embedding, gates, step_weights."""

from __future__ import annotations

from ..core.errors import ModelError
from ..core.graphs import leak_encoder_graph
from ..core.spec import ModelSpec
from ..train.leak_encoder import LeakEncoder, PrototypeHead
from .torch_export import export_module


def export_leak_encoder(encoder: LeakEncoder, spec: ModelSpec) -> bytes:
    """The ONNX file of a trained leak encoder. Raises ModelError for one without prototypes."""
    if not isinstance(encoder.head, PrototypeHead):
        raise ModelError("a run with a linear head is an ablation and can't be exported; train one with prototypes")
    return export_module(encoder, leak_encoder_graph(spec))
