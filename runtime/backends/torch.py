"""torch: the reference, and for GPUs without TensorRT. It runs the bundle's `weights.safetensors`, not its graphs.

This module imports no torch: `auto` and the doctor may ask about a backend that is not installed.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from typing import TYPE_CHECKING

import numpy as np

from ...core import weights
from ...core.errors import BackendError, require
from ...core.graphs import GraphSpec, leak_encoder_graph, vae_encoder_graph
from ...core.outputs import LeakOutputs
from ..machine import cpu_name
from .base import Array, Availability, Backend, BackendKind, Description, Variant

if TYPE_CHECKING:
    from ..networks.network import TorchNetwork

NAME = "torch"
_INSTALL = "pip install 'leakrt[train]'"
_PRECISIONS = ("fp32", "fp16")


class TorchCpuBackend:
    """Both networks on the CPU, float32; one image at a time, so that no score depends on its batch."""

    name = NAME
    batch = 1

    def __init__(self, variant: Variant, networks: dict[str, weights.Network], threads: int) -> None:
        """Raises ModelError naming an operator that is not known."""
        self.precision, self._threads = variant.precision, threads
        self._vae = _Graph(vae_encoder_graph(variant.spec), networks, threads)
        self._leak = _Graph(leak_encoder_graph(variant.spec), networks, threads)

    def vae_encoder(self, image: Array) -> Array:
        """image float32 [B, 3, S, S] to latent float32 [B, 4, S/8, S/8], scaled. Raises ModelError."""
        return self._vae.run(image)[0]

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """noised float32 [B, T, 4, S/8, S/8] to the four outputs, one row each. Raises ModelError."""
        return LeakOutputs(*self._leak.run(noised))

    def describe(self) -> Description:
        """What runs, and where."""
        return Description(NAME, probe().version, cpu_name(), self.precision, self._threads)


class _Graph:
    """One network that keeps to its GraphSpec."""

    def __init__(self, graph: GraphSpec, networks: dict[str, weights.Network], threads: int) -> None:
        import torch

        from ..networks.network import Arithmetic, TorchNetwork

        network = networks[graph.stem]
        self._graph, self._threads = graph, threads
        self._order = _order(graph, network)
        self._network: TorchNetwork = TorchNetwork(network, graph.stem, Arithmetic(), torch.device("cpu"))

    def run(self, value: Array) -> list[Array]:
        import torch

        torch.set_num_threads(self._threads)  # of the whole process: another detector may have set its own
        with torch.inference_mode():
            results = self._network(torch.from_numpy(np.ascontiguousarray(value, np.float32)))
        arrays = [np.array(results[i].numpy()) for i in self._order]
        for tensor, array in zip(self._graph.outputs, arrays, strict=True):
            self._graph.check_shape(tensor, array.shape, len(value))
        return arrays


def _order(graph: GraphSpec, network: weights.Network) -> list[int]:
    """Where each output of the spec stands among the network's. Raises ModelError for other names."""
    ranks = {tensor.name: len(tensor.shape) + 1 for tensor in graph.outputs}
    declared = [(name, [None] * ranks.get(name, 0)) for name in network.outputs]
    graph.check_declared([(network.input, [None, *graph.input.shape])], declared)
    return [network.outputs.index(tensor.name) for tensor in graph.outputs]


def load(variant: Variant, threads: int) -> Backend:
    """Load the variant. Raises MissingExtraError, BackendError without weights or for int8, BundleError, ModelError."""
    require("torch", "train")
    if variant.precision not in _PRECISIONS:
        raise BackendError(f"torch runs {' and '.join(_PRECISIONS)}, not {variant.precision}; name another backend")
    if variant.weights is None:
        raise BackendError(
            f"the bundle holds no {weights.WEIGHTS_NAME}, which torch needs; export it again, or name another backend"
        )
    networks = weights.from_bytes(variant.weights())
    return TorchCpuBackend(variant, networks, threads)


def probe() -> Availability:
    """Whether torch is installed, found without importing it, which takes seconds."""
    if importlib.util.find_spec("torch") is None:
        return Availability(NAME, False, "", "torch is not installed", _INSTALL)
    return Availability(NAME, True, _version(), "", "")


def _version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "another build"


KIND = BackendKind(NAME, probe, load)
