"""Export of the VAE encoder: image -> latent, scale included."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..core.errors import LeakRTError, ModelError
from ..core.graphs import GraphSpec, vae_encoder_graph
from ..core.spec import ModelSpec
from ..train.latent_checks import check_finite, probe_images
from ..train.onnx_vae import OnnxVae
from ..train.sd_vae import SdVae
from ..train.vae import VaeEncoder
from .onnx_graphs import IR_VERSION, convert_opset, finish
from .sessions import open_session, run_session
from .torch_export import export_module
from .user_graph import SCALE, UNSCALED, append_scale, separate_names
from .weights import network_of

_BATCH = 1e-4  # of the largest value; tolerance between batch sizes, and between file and graph
_ALL_CORES = 0


class ScaledEncoder(nn.Module):
    """An AutoencoderKL's encoder up to the scaled posterior mean: [B, 3, S, S] to [B, 4, S/8, S/8]."""

    def __init__(self, autoencoder: Any, scale: float) -> None:
        super().__init__()
        self.encoder, self.quant_conv, self.scale = autoencoder.encoder, autoencoder.quant_conv, scale

    def forward(self, image: Tensor) -> Tensor:
        """Return the scaled mean, which is the first half of the moments."""
        moments = self.encoder(image)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        mean, _ = torch.chunk(moments, 2, dim=1)
        return mean * self.scale


def export_vae(vae: VaeEncoder, spec: ModelSpec) -> bytes:
    """Return the ONNX file of the VAE encoder that a run was trained with, without its pixel encoder.

    Raises ModelError naming the user's file.
    """
    spec = spec.one_branch()
    if isinstance(vae, SdVae):
        return export_module(ScaledEncoder(vae.module, vae.description.scale), vae_encoder_graph(spec))
    if isinstance(vae, OnnxVae):
        return _from_onnx(vae, spec)
    raise ModelError(f"a VAE of kind {vae.description.kind} can't be exported")


def _from_onnx(vae: OnnxVae, spec: ModelSpec) -> bytes:
    name, graph = f"onnx:{vae.description.source}", vae_encoder_graph(spec)
    model = type(vae.graph).FromString(vae.graph.SerializeToString())
    if model.graph.sparse_initializer:
        raise ModelError(f"{name} has sparse weights, which few backends support; export it with dense weights")
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name == vae.input_name and value.name not in weights]
    del model.graph.input[:]  # before IR 4, weights are listed there too
    model.graph.input.extend(inputs)
    model.ir_version = IR_VERSION
    model = convert_opset(model, name)
    given = {vae.input_name: graph.input.name, vae.output_name: UNSCALED}
    separate_names(model, given, (graph.input.name, graph.outputs[0].name, UNSCALED, SCALE))
    append_scale(model, graph, vae.description.scale)
    finished = finish(model, graph, name=name)
    try:
        network_of(finished, name)
    except LeakRTError as error:
        raise ModelError(f"{name} can't be bundled ({error}); export it again with plain tensors") from error
    _check_latents(finished, graph, name, vae=vae)
    return finished


def _check_latents(model: bytes, graph: GraphSpec, name: str, *, vae: OnnxVae) -> None:
    """Compare the graph with the file, and latents of a batch with latents of single images.

    Raises ModelError for NaN, a fixed batch, random latents, and latents that depend on the batch.
    """
    images = probe_images(2, graph.input.shape[-1])
    extremes = [np.clip(level + images[:1] / 16, -1, 1) for level in (-1, 0, 1)]  # flat images may divide by 0
    batch = np.concatenate([images, *extremes, images[:1]]).astype(np.float32)  # one image at two positions
    session, outputs = open_session(name, model, threads=_ALL_CORES), [tensor.name for tensor in graph.outputs]

    def run(part: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        what = name if len(part) == 1 else f"{len(part)} images at once"
        return run_session(what, session, outputs, feed={graph.input.name: part})[0]

    single, expected = np.concatenate([run(image[None]) for image in batch]), vae.encode(batch)
    check_finite(name, single)
    allowed = _BATCH * float(np.abs(single).max())
    if not np.allclose(single[0], single[-1], rtol=0, atol=allowed):
        raise ModelError(f"{name} gives two latents for one image; output the posterior mean, not a sample")
    if single.shape != expected.shape or not np.allclose(single, expected, rtol=0, atol=allowed):
        raise ModelError(
            f"{name} gives different latents after conversion, a bug in LeakRT; export it at opset 17 and report this"
        )
    try:
        batched = run(batch)
    except ModelError as error:
        raise ModelError(
            f"{name} runs on one image only: its batch is fixed ({error}); export it with a dynamic batch"
        ) from error
    if batched.shape != single.shape:
        raise ModelError(f"{name} gives {list(batched.shape)} for {len(batch)} images; export it with a dynamic batch")
    if not np.allclose(batched, single, rtol=0, atol=allowed):
        raise ModelError(
            f"{name} gives latents that depend on the rest of the batch; export it so that images are independent"
        )
