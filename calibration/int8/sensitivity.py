"""Sensitivity of each layer to int8, and the order in which layers return to floating point."""

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
    """The effect of one layer of the VAE encoder in int8 with all other layers in fp32."""

    layer: Layer
    share: float  # of the graph's multiplications
    latent_error: float  # RMS error of the latents over their standard deviation
    score_error: float  # RMS error of the scores over their standard deviation
    labels_moved: float  # share of images whose most probable class changes


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
    """Quantise each layer of the VAE encoder on its own, and measure the error on images float32 [3, S, S] each.

    Returns the layers in the order of the graph. The Q/DQ graph runs unoptimised in float32, so the result doesn't
    depend on int8 kernels. Raises ModelError.
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
        new_latents, new_scores = run(
            quantise(model, "vae_encoder", [layer.name], ranges=ranges, weight_bits=weight_bits)
        )
        found.append(
            LayerSensitivity(
                layer=layer,
                share=layer.multiplications / total,
                latent_error=_relative_rms(new_latents, latents),
                score_error=_relative_rms(new_scores, scores),
                labels_moved=float((new_scores.argmax(1) != scores.argmax(1)).mean()),
            )
        )
        progress("sensitivity of layers", done, len(layers))
    return tuple(found)


def rungs(sensitivities: Sequence[LayerSensitivity], total: int) -> list[tuple[str, ...]]:
    """Return sets of layers to keep in int8, the largest first.

    The sets keep at least 95, 90, 85 and 80 % of the graph's `total` multiplications in int8. Layers return to floating
    point in descending order of squared score error per multiplication.
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


def _relative_rms(found: Array, wanted: Array) -> float:
    difference = found.astype(np.float64) - wanted
    return float(np.sqrt(np.mean(difference**2)) / max(float(wanted.std()), 1e-12))
