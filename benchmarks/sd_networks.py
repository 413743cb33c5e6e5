"""Stable Diffusion's VAE encoder with a leak encoder, both with random weights: as a bundle, and in eager PyTorch.

The time of a network does not depend on its weights. Needs the train extra.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from gpu.reference import SD_VAE

from leakrt.core import noise
from leakrt.core.bundle import Golden, density_name, graph_name, write_bundle
from leakrt.core.decision import Decision
from leakrt.core.graphs import vae_encoder_graph
from leakrt.core.schedule import step_coefficients
from leakrt.core.spec import ModelSpec
from leakrt.core.support import Support
from leakrt.export.leak_graph import export_leak_encoder
from leakrt.export.torch_export import export_module
from leakrt.export.vae_graph import ScaledEncoder
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
from leakrt.runtime.pipeline import Pipeline
from leakrt.train.config import TrainConfig
from leakrt.train.leak_encoder import LeakEncoder


@dataclass(frozen=True)
class Networks:
    """Both networks at 256 pixels, in evaluation mode."""

    spec: ModelSpec
    vae: ScaledEncoder
    leak: LeakEncoder

    @classmethod
    def random(cls) -> Networks:
        """The same weights every time."""
        torch.manual_seed(0)
        spec = ModelSpec(class_names=("real", "generated"), real_class="real", image_size=256)
        autoencoder = AutoencoderKL(**SD_VAE)
        for module in autoencoder.modules():
            if isinstance(module, torch.nn.GroupNorm):  # as they are made, scales of 1 would be left out of the graph
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, std=0.1)
        vae = ScaledEncoder(autoencoder, spec.vae_scale).eval()
        return cls(spec, vae, LeakEncoder(spec, TrainConfig()).eval())


def write(path: Path, networks: Networks, frame: np.ndarray[Any, Any]) -> Path:
    """A whole fp32 bundle of the two networks. `frame` uint8 [H, W, 3] BGR is its golden image."""
    spec, vae, leak = networks.spec, networks.vae, networks.leak
    graphs = export_module(vae, vae_encoder_graph(spec)), export_leak_encoder(leak, spec)
    identity = np.eye(spec.embedding_dim, dtype=np.float32)
    prototypes = np.asarray(leak.prototypes.detach().numpy(), np.float32)
    support = Support(
        mean=np.zeros(spec.embedding_dim, np.float32),
        projection=identity,
        points=identity,
        bandwidth=1.0,
        prototypes=prototypes,
    )
    pipeline = Pipeline(spec, support, OnnxRuntimeBackend(Variant(spec, "fp32", *graphs), 0), threads=0)
    image = pipeline.image_buffer()
    pipeline.preprocess(frame, image)
    outputs = pipeline.run([image]).outputs
    decision = Decision(
        temperature=1.0,
        alarm_threshold=0.9,
        real_threshold=0.5,
        density_threshold=-1e9,
        false_alarm_rate=0.05,
        validation_real=100,
        validation_alarms=5,
    )
    files = {
        graph_name("vae_encoder", "fp32"): graphs[0],
        graph_name("leak_encoder", "fp32"): graphs[1],
        density_name("fp32"): support.to_bytes(),
        "decision.json": json.dumps({"fp32": decision.to_json()}).encode(),
        "golden.npz": Golden(frame, {"fp32": outputs.scores[0]}, {"fp32": outputs.embedding[0]}).to_bytes(),
    }
    write_bundle(path, spec, files, provenance={"trained_on": "nothing: random weights"})
    return path


def eager(networks: Networks) -> Callable[[], Any]:
    """The same networks as they are trained, on the same noise."""
    spec, vae, leak = networks.spec, networks.vae, networks.leak
    picture = torch.zeros(1, 3, spec.image_size, spec.image_size)
    bank = torch.from_numpy(
        noise.normals(spec.noise_seed, 0, spec.draws, steps=len(spec.timesteps), shape=spec.latent_shape)
    )
    steps = torch.from_numpy(step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize))
    a, s = (steps[None, :, i, None, None, None] for i in (0, 1))

    def run() -> Any:
        with torch.inference_mode():
            return leak(a * vae(picture)[:, None] + s * bank)

    return run
