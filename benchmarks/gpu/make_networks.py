"""Writes networks.json: the graphs of a detector with Stable Diffusion's VAE at 256 pixels, as `leakrt export` makes
them today, with the spread of each weight in the place of its values.

    python benchmarks/gpu/make_networks.py

`networks.py` draws weights and makes a bundle of it where diffusers and the exporter are not installed. Run it again
when the export changes; a test says when. Needs the train extra.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from reference import SD_VAE, ReferenceMethod, flops
from torch import nn

from leakrt.core.files import atomic_write
from leakrt.core.graphs import vae_encoder_graph
from leakrt.core.spec import ModelSpec
from leakrt.core.weights import Network
from leakrt.export.leak_graph import export_leak_encoder
from leakrt.export.torch_export import export_module
from leakrt.export.vae_graph import ScaledEncoder
from leakrt.export.weights import network_of
from leakrt.train.config import TrainConfig
from leakrt.train.leak_encoder import LeakEncoder

PATH = Path(__file__).with_name("networks.json")
SPEC = ModelSpec(
    class_names=("real", *(f"generator {i}" for i in range(1, 10))),
    real_class="real",
    timesteps=(0, 20, 60, 100, 150, 200, 250, 300),
)
_KEPT = 32  # elements: constants up to this size keep their values where these are all the same


def main() -> None:
    """Export, describe, write."""
    networks = exported(SPEC)
    cost = flops(ReferenceMethod(SPEC), SPEC.image_size)
    body = {
        "spec": SPEC.to_json(),
        "flops_per_image": cost,
        "networks": {k: _described(n) for k, n in networks.items()},
    }
    atomic_write(PATH, (json.dumps(body, separators=(",", ":")).replace('"networks"', '\n"networks"') + "\n").encode())
    print(f"{PATH.name}: {sum(len(n.nodes) for n in networks.values())} nodes, {PATH.stat().st_size >> 10} KiB")


def exported(spec: ModelSpec) -> dict[str, Network]:
    """Both graphs of untrained networks."""
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(**SD_VAE)
    vae, leak = ScaledEncoder(autoencoder, spec.vae_scale).eval(), LeakEncoder(spec, TrainConfig()).eval()
    for module in (vae, leak):
        _unsettle(module)
    return {
        "vae_encoder": network_of(export_module(vae, vae_encoder_graph(spec)), "vae_encoder"),
        "leak_encoder": network_of(export_leak_encoder(leak, spec), "leak_encoder"),
    }


def _unsettle(module: nn.Module) -> None:
    """Spread weights so that outputs differ from image to image, and move what starts at one and zero: the exporter
    folds that away, and in a trained network it is neither."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if name == "head.prototypes":
            tensor.data.normal_()
        elif name == "step_scale" or tensor.dim() == 1:
            start = torch.zeros_like(tensor) if name.endswith(("bias", "running_mean")) else torch.ones_like(tensor)
            tensor.data.copy_(start + 0.1 * torch.randn_like(tensor).clamp(-3, 3))
        elif tensor.dim() > 1:
            tensor.data.normal_(0.0, (2.0 / tensor[0].numel()) ** 0.5)


def _described(network: Network) -> dict[str, Any]:
    nodes = [[n.operator, n.inputs, n.outputs, dict(n.attributes)] for n in network.nodes]
    tensors = {name: _tensor(t) for name, t in network.tensors.items()}
    return {"input": network.input, "outputs": network.outputs, "nodes": nodes, "tensors": tensors}


def _tensor(tensor: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Values of what is no weight; mean and standard deviation of what is one."""
    body: dict[str, Any] = {"dtype": tensor.dtype.name, "shape": tensor.shape}
    if tensor.dtype != np.float32 or tensor.size == 1 or (tensor.size <= _KEPT and np.ptp(tensor) == 0):
        return body | {"values": tensor.ravel().tolist()}
    return body | {"mean": round(float(tensor.mean()), 5), "std": round(float(tensor.std()), 5)}


if __name__ == "__main__":
    main()
