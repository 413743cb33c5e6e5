"""Run a variant on images on any backend, without the decision."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ...core.acceptance import Speedup
from ...core.graphs import leak_encoder_graph, vae_encoder_graph
from ...core.noising import Noising
from ...core.outputs import LeakOutputs
from ...core.progress import Progress, silent
from ...core.spec import ModelSpec
from ...export.sessions import GraphSession, SessionPair
from ...runtime.backends import registry
from ...runtime.backends.base import BackendKind, Variant
from ...train.predict import concatenate
from .speed import ON_CPU, clock_of, measure_speedup

_REFERENCE = registry.REFERENCE

Array = npt.NDArray[np.float32]


class VariantRunner(Protocol):
    """A loaded variant. Every backend of the runtime implements it."""

    def vae_encoder(self, image: Array) -> Array:
        """Encode images float32 [B, 3, S, S] to scaled latents float32 [B, C, S/8, S/8]."""

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """Return the four outputs for noised latents float32 [B, T, C, S/8, S/8]."""


Weights = Callable[[], bytes]
Loader = Callable[[Variant], VariantRunner]
Graphs = tuple[bytes, bytes]  # VAE encoder, leak encoder


@dataclass(frozen=True)
class Backends:
    """The backends on which variants are measured. ONNX Runtime is always the first."""

    loaders: Mapping[str, Loader]
    timed: Mapping[str, Loader]  # the same on one thread, for CPU backends

    def speedup(
        self,
        name: str,
        spec: ModelSpec,
        exact: Graphs,
        *,
        precision: str,
        graphs: Graphs,
        run: Callable[[VariantRunner], object],
    ) -> Speedup:
        """Time `run` of the variant relative to fp32 on the backend `name`. Raises what loading raises."""
        load = self.timed[name]
        return measure_speedup(
            load(Variant(spec, "fp32", *exact)), load(Variant(spec, precision, *graphs)), run, clock=clock_of(name)
        )


def load_variant(spec: ModelSpec, vae_encoder: bytes, leak_encoder: bytes, *, threads: int) -> SessionPair:
    """Load both graphs in ONNX Runtime, for one image at a time. Raises ModelError."""
    vae = GraphSession(vae_encoder_graph(spec), vae_encoder, threads)
    return SessionPair(vae, GraphSession(leak_encoder_graph(spec), leak_encoder, threads))


def onnxruntime_only(threads: int) -> Backends:
    """Return only ONNX Runtime."""
    return Backends(
        {_REFERENCE: partial(_load_reference, threads=threads)}, {_REFERENCE: partial(_load_reference, threads=1)}
    )


def installed(threads: int, *, weights: Weights | None = None) -> Backends:
    """Return ONNX Runtime and the other installed CPU backends.

    With a bundle's `weights` (see `runtime.loaded.weights_of`) and a GPU, torch is included; its fp16 needs a GPU.
    """
    reference = onnxruntime_only(threads)
    loaders, timed = dict(reference.loaders), dict(reference.timed)
    for name in (*ON_CPU, *(["torch"] if weights is not None and _torch_sees_gpu() else [])):
        kind = registry.kind(name)
        if name not in loaders and kind.probe().runs:
            loaders[name], timed[name] = (
                partial(load_on, kind=kind, threads=count, weights=weights) for count in (threads, 1)
            )
    return Backends(loaders, timed)


def load_on(graphs: Variant, *, kind: BackendKind, threads: int, weights: Weights | None) -> VariantRunner:
    """Load a variant on a backend of the runtime. Raises what loading raises."""
    return kind.load(replace(graphs, weights=weights), threads)


def _load_reference(graphs: Variant, *, threads: int) -> VariantRunner:
    return load_variant(graphs.spec, graphs.vae_encoder, graphs.leak_encoder, threads=threads)


def _torch_sees_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def run_images(
    runner: VariantRunner,
    spec: ModelSpec,
    images: Iterable[Array],
    *,
    task: str = "measure",
    total: int = 0,
    progress: Progress = silent,
) -> tuple[Array, LeakOutputs]:
    """Return latents [N, C, S/8, S/8] and outputs averaged over draws for N `images`, float32 [3, S, S] each.

    Raises ModelError.
    """
    latents = []
    for done, image in enumerate(images, 1):
        latents.append(runner.vae_encoder(image[None]))
        progress(task, done, total)
    stacked = np.concatenate(latents) if latents else np.empty((0, *spec.latent_shape), np.float32)
    return stacked, run_latents(runner, spec, stacked)


def run_latents(runner: VariantRunner, spec: ModelSpec, latents: Array) -> LeakOutputs:
    """Return outputs averaged over draws for latents float32 [N, C, S/8, S/8]. Raises ModelError."""
    noising = Noising(spec)
    rows = [runner.leak_encoder(noising(latents[i : i + 1])).average_draws(spec.draws) for i in range(len(latents))]
    return concatenate(rows, spec)


def whole_way(spec: ModelSpec, image: Array) -> Callable[[VariantRunner], LeakOutputs]:
    """Return a function that runs a runner on the preprocessed image, float32 [3, S, S].

    The noise is computed beforehand, so that timings don't include it.
    """
    noising = Noising(spec)
    return lambda runner: runner.leak_encoder(noising(runner.vae_encoder(image[None])))
