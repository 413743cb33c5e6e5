"""What quantising one layer alone does, and the order in which layers go back to floating point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...core.acceptance import MIN_INT8_SHARE
from ...core.graphs import leak_encoder_graph, vae_encoder_graph
from ...core.noising import Noising
from ...core.outputs import LeakOutputs
from ...core.progress import Progress
from ...core.spec import ModelSpec
from ...export.graph_io import parse_graph
from ...export.sessions import GraphSession
from ..layers import Layer, int8_share, multiplications
from .qdq import quantise

RUNGS = (0.95, 0.9, 0.85, MIN_INT8_SHARE)

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """One layer of the VAE encoder in int8, all else fp32."""

    layer: Layer
    share: float  # of the graph's multiplications
    latent_error: float  # RMS error of the latents over their standard deviation
    score_error: float  # RMS error of the scores over their standard deviation
    labels_moved: float  # share of images whose likeliest class changes


def measure_layers(
    model: bytes,
    leak_encoder: bytes,
    spec: ModelSpec,
    *,
    layers: Sequence[Layer],
    ranges: Mapping[str, float],
    images: Sequence[Array],
    weight_bits: int,
    threads: int,
    progress: Progress,
) -> tuple[LayerSensitivity, ...]:
    """Each layer of the VAE encoder alone, in the order of the graph, on images float32 [3, S, S].

    The arithmetic is that of the Q/DQ graph itself, run in float32, so that no backend's kernels get in.
    """
    leak, noising = GraphSession(leak_encoder_graph(spec), leak_encoder, threads), Noising(spec)

    def run(graph: bytes) -> tuple[Array, Array]:
        runner = GraphSession(vae_encoder_graph(spec), graph, threads, optimised=False)
        latents = np.concatenate([runner.run(image[None])[0] for image in images])
        rows = [LeakOutputs(*leak.run(noising(z[None]))).average_draws(spec.draws).scores for z in latents]
        return latents, np.concatenate(rows)

    latents, scores = run(model)
    total = sum(multiplications(parse_graph(model, "vae_encoder")).values())
    found = []
    for done, layer in enumerate(layers, 1):
        moved, told = run(quantise(model, "vae_encoder", [layer.name], ranges=ranges, weight_bits=weight_bits))
        found.append(
            LayerSensitivity(
                layer=layer,
                share=layer.multiplications / total,
                latent_error=_relative(moved, latents),
                score_error=_relative(told, scores),
                labels_moved=float((told.argmax(1) != scores.argmax(1)).mean()),
            )
        )
        progress("sensitivity of layers", done, len(layers))
    return tuple(found)


def rungs(sensitivities: Sequence[LayerSensitivity], total: int) -> list[tuple[str, ...]]:
    """Sets of layers to keep in int8, the largest first: down to 95 %, then to 90, 85 and 80 % of the graph's `total`
    multiplications.

    Layers go back to floating point in the order of squared score error for each multiplication given up.
    """
    layers = [s.layer for s in sensitivities]
    order = sorted(sensitivities, key=lambda s: s.score_error**2 / max(s.share, 1e-9), reverse=True)
    found: list[tuple[str, ...]] = []
    for floor in RUNGS:
        kept = {layer.name for layer in layers}
        for candidate in order:
            without = kept - {candidate.layer.name}
            if without and int8_share(layers, without, total) >= floor:
                kept = without
        names = tuple(layer.name for layer in layers if layer.name in kept)
        if names not in found:
            found.append(names)
    return found


def _relative(found: Array, wanted: Array) -> float:
    difference = found.astype(np.float64) - wanted
    return float(np.sqrt(np.mean(difference**2)) / max(float(wanted.std()), 1e-12))
