"""The VAE encoder as a graph: image -> latent, its scale inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..core.errors import ModelError, one_line, require
from ..core.graphs import GraphSpec, vae_encoder_graph
from ..core.spec import ModelSpec
from ..train.vae import OnnxVae, SdVae, VaeEncoder
from .onnx_graphs import convert_opset, finish
from .sessions import open_session, run_session
from .torch_export import export_module

if TYPE_CHECKING:
    import onnx


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
    try:
        model = onnx.load_model_from_string(vae.model)
    except Exception as error:  # protobuf's own kinds
        raise ModelError(f"{name} can't be parsed ({one_line(error)})") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ModelError(f"{name} keeps its weights in other files; save it as one file")
    model = convert_opset(model, name)
    graph = vae_encoder_graph(spec)
    initializers = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]  # before IR 4 both were listed
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    _keep_output(model, vae.output_name)
    _rename(model, vae.input_name, graph.input.name)
    _append_scale(model, vae.output_name, vae.description.scale)
    finished = finish(model, graph)
    _check_batch(finished, graph, name)
    return finished


def _check_batch(model: bytes, graph: GraphSpec, name: str) -> None:
    """Raises ModelError where latents are others in a batch: of an encoder made for a batch of one, or a random one."""
    shape = (2, *graph.input.shape)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    session, names = open_session(name, model, threads=_ALL_CORES), [tensor.name for tensor in graph.outputs]

    def run(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return run_session(f"{name}, {len(part)} at once", session, names, {graph.input.name: part})[0]

    together, alone = run(images), np.concatenate([run(images[:1]), run(images[1:])])
    if together.shape != alone.shape or not np.allclose(together, alone, rtol=0, atol=_BATCH * np.abs(alone).max()):
        raise ModelError(f"{name} gives other latents for two images at once than one by one; make its batch dynamic")


def _keep_output(model: onnx.ModelProto, name: str) -> None:
    kept = [value for value in model.graph.output if value.name == name]
    del model.graph.output[:]
    model.graph.output.extend(kept)


def _rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """Rename the input, and whatever inside has the new name already."""
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer):
        value.name = _renamed(value.name, old, new)
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [_renamed(name, old, new) for name in names]


def _renamed(name: str, old: str, new: str) -> str:
    if name == old:
        return new
    return f"{name}_inner" if name == new else name


def _append_scale(model: onnx.ModelProto, output: str, scale: float) -> None:
    """latent = scale x output, as one multiplication at the end."""
    onnx = require("onnx", "train")
    inner = "unscaled_latent"
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [inner if name == output else name for name in names]
    for node in model.graph.node:
        node.input[:] = ["latent_inner" if name == "latent" else name for name in node.input]
        node.output[:] = ["latent_inner" if name == "latent" else name for name in node.output]
    factor = onnx.numpy_helper.from_array(np.array(scale, np.float32), "latent_scale")
    model.graph.initializer.append(factor)
    model.graph.node.append(onnx.helper.make_node("Mul", [inner, "latent_scale"], ["latent"], "scale"))
    model.graph.output[0].name = "latent"
