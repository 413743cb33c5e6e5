"""The chain from preprocessed images to the leak encoder's outputs, without leaving the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ....core.graphs import GraphSpec, leak_encoder_graph, vae_encoder_graph
from ....core.spec import ModelSpec
from ....core.weights import Network
from .group_norm import TORCH, NormKernels
from .network import WORKHORSES, Arithmetic, TorchNetwork
from .noising import DeviceNoising

STAGES = ("vae", "noising", "leak")  # as in Verdict.latency_ms
Mark = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Device, dtype and memory format of a chain. In float16, only the leak encoder's convolutions are float16.

    The rest of the leak encoder stays float32.
    """

    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format = torch.contiguous_format
    kernels: NormKernels = TORCH


class TorchChain:
    """Both networks of a bundle and the noising between them."""

    def __init__(self, spec: ModelSpec, networks: Mapping[str, Network], placement: Placement, *, threads: int) -> None:
        """Raises ModelError for an unsupported operator, or if a network's input or outputs have other names."""
        self._placement = placement
        graphs = vae_encoder_graph(spec), leak_encoder_graph(spec)
        self._latent, self._outputs = (output_order(graph, networks[graph.stem]) for graph in graphs)
        self._vae = self._network(networks, graphs[0].stem, WORKHORSES)
        self._leak = self._network(networks, graphs[1].stem, frozenset({"Conv"}))
        self._noise = DeviceNoising(spec, placement.dtype, placement.device, threads=threads)

    def __call__(self, image: Tensor, mark: Mark = lambda place: None) -> tuple[Tensor, ...]:
        """Run image float32 [B, 3, S, S]; returns latent [B, C, S/8, S/8], scores, embedding, gates, step weights.

        All are float32; the last four have B x draws rows. `mark` is called with 0 before the first stage and with n
        after the n-th. Raises ModelError.
        """
        place = self._placement
        mark(0)
        latent = self._vae(image.to(dtype=place.dtype, memory_format=place.memory_format))[self._latent[0]]
        mark(1)
        noised = self._noise(latent)
        mark(2)
        outputs = self._leak(noised)
        mark(3)
        return (latent, *(outputs[i] for i in self._outputs))

    def alone(self, stem: str, value: Tensor) -> tuple[Tensor, ...]:
        """Run only the network with this graph stem; outputs in the order of its GraphSpec. Raises ModelError."""
        place = self._placement
        if stem == "vae_encoder":
            return tuple(
                self._vae(value.to(dtype=place.dtype, memory_format=place.memory_format))[i] for i in self._latent
            )
        outputs = self._leak(value.to(place.dtype))
        return tuple(outputs[i] for i in self._outputs)

    def _network(self, networks: Mapping[str, Network], stem: str, half: frozenset[str]) -> TorchNetwork:
        place = self._placement
        arithmetic = Arithmetic(place.dtype, half)
        return TorchNetwork(
            networks[stem],
            stem,
            arithmetic,
            device=place.device,
            memory_format=place.memory_format,
            kernels=place.kernels,
        )


def output_order(graph: GraphSpec, network: Network) -> list[int]:
    """Return the index of each output of the spec in the network's outputs. Raises ModelError for other names."""
    ranks = {tensor.name: len(tensor.shape) + 1 for tensor in graph.outputs}
    declared = [(name, [None] * ranks.get(name, 0)) for name in network.outputs]
    graph.check_declared([(network.input, [None, *graph.input.shape])], declared)
    return [network.outputs.index(tensor.name) for tensor in graph.outputs]
