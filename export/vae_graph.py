"""The VAE encoder as a graph: image -> latent, its scale inside."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..core.errors import ModelError, one_line, require
from ..core.graphs import GraphSpec, vae_encoder_graph
from ..core.spec import ModelSpec
from ..train.encoder import VaeEncoder, check_finite
from ..train.onnx_file import graphs_of, sort_nodes
from ..train.onnx_vae import OnnxVae
from ..train.sd_vae import SdVae
from .onnx_graphs import convert_opset, finish
from .sessions import open_session, run_session
from .torch_export import export_module

if TYPE_CHECKING:
    import onnx

_UNSCALED, _SCALE = "unscaled_latent", "latent_scale"  # tensors that the exported graph adds
_BATCH = 1e-4  # of the largest value: what a latent may move by in a batch
_ALL_CORES = 0


class ScaledEncoder(nn.Module):
    """An AutoencoderKL's encoder, up to the scaled posterior mean: [B, 3, S, S] to [B, 4, S/8, S/8]."""

    def __init__(self, autoencoder: Any, scale: float) -> None:
        super().__init__()
        self.encoder, self.quant_conv, self.scale = autoencoder.encoder, autoencoder.quant_conv, scale

    def forward(self, image: Tensor) -> Tensor:
        """The first half of the moments is the mean."""
        moments = self.encoder(image)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        mean, _ = torch.chunk(moments, 2, dim=1)
        return mean * self.scale


def export_vae(vae: VaeEncoder, spec: ModelSpec) -> bytes:
    """The ONNX file of the encoder that a run was trained through. Raises ModelError."""
    if isinstance(vae, SdVae):
        return export_module(ScaledEncoder(vae.module, vae.description.scale), vae_encoder_graph(spec))
    if isinstance(vae, OnnxVae):
        return _from_onnx(vae, spec)
    raise ModelError(f"a VAE of kind {vae.description.kind} can't be exported")


def _from_onnx(vae: OnnxVae, spec: ModelSpec) -> bytes:
    onnx = require("onnx", "train")
    name = f"onnx:{vae.description.source}"
    model = convert_opset(onnx.load_model_from_string(vae.model), name)
    graph = vae_encoder_graph(spec)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]  # before IR 4 both were listed
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    _keep_output(model, vae.output_name)
    _rename(model, vae.input_name, vae.output_name, graph)
    _append_scale(model, graph, vae.description.scale)
    sort_nodes(model.graph, name)
    finished = finish(model, graph, name=name)
    _check_batch(finished, graph, name)
    return finished


def _check_batch(model: bytes, graph: GraphSpec, name: str) -> None:
    """Raises ModelError where latents of two images at once are others than one by one, or are not finite."""
    shape = (2, *graph.input.shape)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    session, names = open_session(name, model, threads=_ALL_CORES), [tensor.name for tensor in graph.outputs]

    def run(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return run_session(name, session, names, {graph.input.name: part})[0]

    alone = np.concatenate([run(images[:1]), run(images[1:])])
    check_finite(alone, name)
    try:
        together = run(images)
    except ModelError as error:
        reason = one_line(error.__cause__ or error)
        why = f"runs one image and not two at once, so a batch of one is fixed inside ({reason})"
        raise ModelError(f"{name} {why}; export it with a dynamic batch") from error
    if together.shape != alone.shape:
        raise ModelError(
            f"{name} gives a latent of shape {list(together.shape)} for two images, where {list(alone.shape)} is "
            "needed; export it with a dynamic batch"
        )
    if not np.allclose(together, alone, rtol=0, atol=_BATCH * np.abs(alone).max()):
        raise ModelError(
            f"{name} gives other latents for two images at once than one by one: one image's latent depends on the "
            "other image; export it in evaluation mode, without statistics over the batch"
        )


def _keep_output(model: onnx.ModelProto, name: str) -> None:
    kept = [value for value in model.graph.output if value.name == name]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _rename(model: onnx.ModelProto, old_input: str, old_output: str, graph: GraphSpec) -> None:
    """Rename the input to the format's name and the output to _UNSCALED, and whatever has one of those names already.

    Names are unique over a graph and all graphs inside it but for sibling branches (ONNX, Names Within a Graph), so
    one table serves for all of them.
    """
    used = {name for inner in graphs_of(model.graph) for name in _names(inner)}
    wanted = {old_input: graph.input.name, old_output: _UNSCALED}
    table = dict(wanted)
    for name in (graph.input.name, graph.outputs[0].name, _UNSCALED, _SCALE):
        if name in used and name not in wanted:
            table[name] = _free(f"{name}_inner", used)
            used.add(table[name])
    for inner in graphs_of(model.graph):
        for value in (*inner.input, *inner.output, *inner.value_info, *inner.initializer):
            value.name = table.get(value.name, value.name)
        for sparse in inner.sparse_initializer:
            sparse.values.name = table.get(sparse.values.name, sparse.values.name)
        for node in inner.node:
            for names in (node.input, node.output):
                names[:] = [table.get(name, name) for name in names]


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (*node.input, *node.output)


def _free(name: str, used: set[str]) -> str:
    """`name`, or with the first number behind it that is not used."""
    numbered = (f"{name}_{i}" for i in itertools.count())
    return name if name not in used else next(each for each in numbered if each not in used)


def _append_scale(model: onnx.ModelProto, graph: GraphSpec, scale: float) -> None:
    """latent = scale x output, as one multiplication at the end."""
    onnx = require("onnx", "train")
    latent = graph.outputs[0].name
    node = _free("scale", {node.name for node in model.graph.node})
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(scale, np.float32), _SCALE))
    model.graph.node.append(onnx.helper.make_node("Mul", [_UNSCALED, _SCALE], [latent], node))
    model.graph.output[0].name = latent
