"""Parity check: the exported graphs against the source networks, end to end on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import ParityError
from ..core.judging import Judge
from ..core.noising import Noising
from ..core.outputs import Array, LeakOutputs
from ..core.progress import Progress, silent
from ..core.spec import ModelSpec
from ..train.image_latents import encode_images
from ..train.predict import concatenate, run_encoder, verdicts
from ..train.two_branches import Encoder
from ..train.vae import VaeEncoder
from .sessions import GraphSession

RELATIVE_TOLERANCE = 1e-4  # largest |score difference| over largest |score|
_HEADROOM = 4.0  # tolerance of other devices over the one allowed here: other CPUs sum in other orders
_BATCH = 4


@dataclass(frozen=True, kw_only=True)
class GraphParity:
    """Differences between the graphs and their source. Scores are compared before temperature."""

    images: int
    latent_difference: float  # largest |difference|
    score_difference: float  # largest |difference|
    relative_score_difference: float  # score_difference over the largest |score|
    embedding_difference: float  # largest |difference|
    same_verdicts: int  # of `images`
    tolerance: float  # score difference that a backend may show on the golden image

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return asdict(self)


@dataclass(frozen=True)
class Graphs:
    """The two exported graphs in ONNX Runtime."""

    vae_encoder: GraphSession
    leak_encoder: GraphSession


@dataclass(frozen=True)
class Source:
    """The networks that the graphs were exported from."""

    vae: VaeEncoder
    encoder: Encoder


def run_source(source: Source, spec: ModelSpec, images: Array) -> tuple[Array, LeakOutputs]:
    """Return latents and outputs of the source networks for images float32 [B, 3, S, S]."""
    latents = encode_images(source.vae, source.encoder, images)
    outputs = run_encoder(source.encoder.eval(), Noising(spec)(latents))
    return latents, outputs.average_draws(spec.draws)


def run_graphs(graphs: Graphs, spec: ModelSpec, images: Array) -> tuple[Array, LeakOutputs]:
    """Return latents and outputs of the exported graphs for images float32 [B, 3, S, S]."""
    latents = graphs.vae_encoder.run(images)[0]
    outputs = LeakOutputs(*graphs.leak_encoder.run(Noising(spec)(latents)))
    return latents, outputs.average_draws(spec.draws)


def measure(
    source: Source, graphs: Graphs, judge: Judge, *, images: Sequence[Array], progress: Progress = silent
) -> GraphParity:
    """Compare graphs and source on preprocessed images, each float32 [3, S, S].

    Raises ParityError if scores differ by more than 1e-4 of the largest, or if a verdict differs.
    """
    spec = judge.spec
    latent_difference, wanted, found = 0.0, [], []
    for start in range(0, len(images), _BATCH):
        batch = np.stack(images[start : start + _BATCH])
        expected, outputs = run_source(source, spec, batch)
        latents, exported = run_graphs(graphs, spec, batch)
        latent_difference = max(latent_difference, _largest(latents, expected))
        wanted.append(outputs)
        found.append(exported)
        progress("parity", min(start + _BATCH, len(images)), len(images))
    return _compare(judge, concatenate(wanted, spec), concatenate(found, spec), latent_difference=latent_difference)


def _compare(judge: Judge, wanted: LeakOutputs, found: LeakOutputs, *, latent_difference: float) -> GraphParity:
    names = [str(i) for i in range(len(wanted.scores))]
    pairs = zip(verdicts(judge, names, wanted), verdicts(judge, names, found), strict=True)
    same = sum((a.verdict, a.label) == (b.verdict, b.label) for a, b in pairs)
    largest = float(np.abs(wanted.scores).max())
    difference = _largest(found.scores, wanted.scores)
    allowed = RELATIVE_TOLERANCE * largest
    if not difference <= allowed:  # written so that NaN fails too
        raise ParityError(
            f"the exported graphs change scores by {difference:.3g}, more than {allowed:.3g} (1e-4 of the largest); "
            "export with another version of torch or ONNX Runtime, and report this"
        )
    if same != len(names):
        raise ParityError(f"the exported graphs change {len(names) - same} of {len(names)} verdicts; report this")
    return GraphParity(
        images=len(names),
        latent_difference=latent_difference,
        score_difference=difference,
        relative_score_difference=difference / largest,
        embedding_difference=_largest(found.embedding, wanted.embedding),
        same_verdicts=same,
        tolerance=_HEADROOM * allowed,
    )


def _largest(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    return float(np.abs(a - b).max())
