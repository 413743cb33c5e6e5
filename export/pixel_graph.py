"""The pixel encoder in the graph of the VAE encoder, so that a bundle has one encoder from image to latent."""

from __future__ import annotations

from ..core.errors import require
from ..core.graphs import GraphSpec, TensorSpec, vae_encoder_graph
from ..core.spec import ModelSpec
from ..train.onnx_nodes import names_defined
from ..train.two_branches import Encoder, TwoBranchEncoder
from .onnx_graphs import finish
from .torch_export import export_module
from .user_graph import separate_names

_VAE, _PIXELS = "vae_latent", "pixel_latent"


def append_pixel_encoder(vae_encoder: bytes, encoder: Encoder, spec: ModelSpec) -> bytes:
    """Return the graph image -> latent [B, 4 + R, S/8, S/8] from that of the VAE; the same without a pixel branch.

    Raises ModelError.
    """
    if not isinstance(encoder, TwoBranchEncoder):
        return vae_encoder
    onnx = require("onnx", "train")
    graph = vae_encoder_graph(spec)
    (latent,) = graph.outputs
    channels = TensorSpec(_PIXELS, (spec.branch_channels, *latent.shape[1:]))
    pixels = onnx.load_model_from_string(
        export_module(encoder.pixel_encoder.folded(), GraphSpec("pixel_encoder", graph.input, (channels,)))
    )
    model = onnx.load_model_from_string(vae_encoder)
    given = {graph.input.name: graph.input.name, latent.name: _VAE}
    separate_names(model, given, (latent.name, graph.input.name, *names_defined(pixels.graph)))
    for node in pixels.graph.node:
        node.name = f"pixels/{node.name}"
    model.graph.node.extend(pixels.graph.node)
    model.graph.initializer.extend(pixels.graph.initializer)
    model.graph.node.append(onnx.helper.make_node("Concat", [_VAE, _PIXELS], [latent.name], "join", axis=1))
    model.graph.output[0].name = latent.name
    return finish(model, graph)
