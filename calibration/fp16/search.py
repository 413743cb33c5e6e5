"""Search for the nodes of an FP16 variant that stay float32: those with the largest score error on images.

Errors are measured with `rounding`, which simulates float16 strictly. ONNX Runtime on a CPU computes parts of an FP16
graph in float32 and would underestimate the error of a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...core.graphs import GraphSpec, leak_encoder_graph, vae_encoder_graph
from ...core.noising import Noising
from ...core.outputs import LeakOutputs
from ...core.progress import Progress
from ...core.spec import ModelSpec
from ...export.graph_io import parse_graph
from ...export.sessions import GraphSession
from ..layers import multiplications
from .convert import check_convertible, overflowing_nodes
from .regions import Region, find_regions, half_share
from .rounding import largest_values, rounded

MIN_SHARE = 0.8  # of a graph's multiplications in float16; the minimum for an FP16 variant
_MIN_GAIN = 0.05  # a region must reduce the squared score error by this share to be worth its casts
_CHEAP = 0.01  # cost of the casts of a region, as a share of the multiplications
_WORK = 48e9  # limit of multiplications of the VAE encoder in one measurement
_FEWEST, _MOST = 8, 48

Array = npt.NDArray[np.float32]
Islands = frozenset[tuple[str, str]]  # graph's stem, node's name


@dataclass(frozen=True)
class ScoreError:
    """The effect of rounding on the scores before temperature, over all images."""

    relative: float  # RMS error over RMS score, both centred per image; inf if a score is not finite
    disagreement: float  # expected share of images whose most probable class changes


@dataclass(frozen=True, kw_only=True)
class SearchStep:
    """One set of islands in the search."""

    region: str  # the region added in this step, "GRAPH: NAME"; empty in the first step
    islands: Islands
    error: ScoreError
    half_share: dict[str, float]  # graph's stem to the share of its multiplications in float16


class IslandSearch:
    """Greedy search: ranks regions by gain over cost and returns them to float32 one by one."""

    def __init__(
        self, spec: ModelSpec, vae: bytes, leak: bytes, *, images: Sequence[Array], threads: int, progress: Progress
    ) -> None:
        """`images`: float32 [3, S, S] each. Raises ModelError for graphs that can't be converted to FP16."""
        self._spec, self._threads, self._progress = spec, threads, progress
        self._graphs: tuple[GraphSpec, GraphSpec] = (vae_encoder_graph(spec), leak_encoder_graph(spec))
        self.models = {g.stem: parse_graph(m, g.stem) for g, m in zip(self._graphs, (vae, leak), strict=True)}
        for stem, model in self.models.items():
            check_convertible(model, stem)
        self._work = {stem: multiplications(model) for stem, model in self.models.items()}
        self._images = images
        self._noising = Noising(spec)
        self._latents = self._encode(vae)
        self._scores = self._judge(leak, self._latents)
        self._overflow = self._find_overflow()

    def steps(self, margins: Array) -> Iterator[SearchStep]:
        """Yield sets of islands; each adds one region to the last. `margins` [N]: see `score_error`.

        Starts with the nodes that overflow. Skips regions that reduce the error too little or would leave less than
        MIN_SHARE of a graph in float16.
        """
        islands = self._overflow
        error = self.measure(islands, margins)
        yield SearchStep(region="", islands=islands, error=error, half_share=self._shares(islands))
        for region in self._ranked():
            tried = islands | {(region.graph, node) for node in region.nodes}
            if tried == islands or self._shares(tried)[region.graph] < MIN_SHARE:
                continue
            found = self.measure(tried, margins)
            if not found.relative**2 <= (1.0 - _MIN_GAIN) * error.relative**2:
                continue
            islands, error = tried, found
            yield SearchStep(
                region=f"{region.graph}: {region.name}", islands=islands, error=error, half_share=self._shares(islands)
            )

    def measure(self, islands: Islands, margins: Array) -> ScoreError:
        """Return the score error with all nodes outside `islands` in float16."""
        vae, leak = (self._rounded(graph.stem, islands) for graph in self._graphs)
        return score_error(self._scores, self._judge(leak, self._encode(vae)), margins)

    def _ranked(self) -> list[Region]:
        """Return regions sorted by the squared score error of that region in float16, over its cost in float32."""
        found = [r for stem, model in self.models.items() for r in find_regions(model, stem)]
        gains = []
        for done, region in enumerate(found, 1):
            gains.append(self._squared_error(region) / (region.share + _CHEAP))
            self._progress("error of each region", done, len(found))
        order = np.argsort([-gain for gain in gains], kind="stable")
        return [found[i] for i in order if gains[i] > 0.0]

    def _squared_error(self, region: Region) -> float:
        everything = {(stem, n.name) for stem, model in self.models.items() for n in model.graph.node}
        kept = frozenset(everything - {(region.graph, node) for node in region.nodes}) | self._overflow
        model = self._rounded(region.graph, kept)
        if region.graph == self._graphs[0].stem:
            exact = self.models[self._graphs[1].stem].SerializeToString()
            scores = self._judge(exact, self._encode(model))
        else:
            scores = self._judge(model, self._latents)
        return score_error(self._scores, scores, np.empty(0, np.float32)).relative ** 2

    def _find_overflow(self) -> Islands:
        vae, leak = self._graphs
        inputs = {
            vae: (x[None] for x in self._images),
            leak: (self._noising(z[None])[i : i + 1] for z in self._latents for i in range(self._spec.draws)),
        }
        found = set()
        for graph, values in inputs.items():
            model = self.models[graph.stem]
            wide = overflowing_nodes(model, largest_values(model, graph, values, threads=self._threads))
            found |= {(graph.stem, node) for node in wide}
        return frozenset(found)

    def _rounded(self, stem: str, islands: Islands) -> bytes:
        return rounded(self.models[stem], {node for graph, node in islands if graph == stem})

    def _encode(self, model: bytes) -> Array:
        runner = GraphSession(self._graphs[0], model, self._threads)
        return np.concatenate([runner.run(x[None])[0] for x in self._images])

    def _judge(self, model: bytes, latents: Array) -> Array:
        runner, draws = GraphSession(self._graphs[1], model, self._threads), self._spec.draws
        rows = [LeakOutputs(*runner.run(self._noising(z[None]))).average_draws(draws).scores for z in latents]
        return np.concatenate(rows)

    def _shares(self, islands: Islands) -> dict[str, float]:
        return {s: half_share(w, {n for g, n in islands if g == s}) for s, w in self._work.items()}


def score_error(wanted: Array, found: Array, margins: Array) -> ScoreError:
    """Compare scores float32 [N, K] with the expected ones.

    `margins` [M]: differences of the two highest scores of images in fp32. The expected disagreement pairs each of
    the M margins with each of the N errors of such a difference, and counts the pairs whose error exceeds the margin.
    Its resolution is therefore 1 / (M N).
    """
    if not np.isfinite(found).all():
        return ScoreError(float("inf"), 1.0)
    error = found.astype(np.float64) - wanted
    error -= error.mean(axis=1, keepdims=True)
    spread = wanted - wanted.mean(axis=1, keepdims=True, dtype=np.float64)
    relative = float(np.sqrt(np.mean(error**2)) / max(float(np.sqrt(np.mean(spread**2))), 1e-12))
    order, rows = np.argsort(wanted, axis=1), np.arange(len(wanted))
    moved = error[rows, order[:, -1]] - error[rows, order[:, -2]]
    lost = np.searchsorted(np.sort(margins.astype(np.float64)), -moved, side="left")
    return ScoreError(relative, float(lost.mean() / len(margins)) if len(margins) else 0.0)


def score_margins(scores: Array) -> Array:
    """Return the difference of the two highest scores, float32 [N], of scores [N, K]."""
    ordered = np.sort(scores, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2], np.float32)


def search_images(model: bytes, stem: str) -> int:
    """Return the number of images to measure regions on: 8 to 48, fewer for a larger VAE encoder."""
    work = sum(multiplications(parse_graph(model, stem)).values())
    return int(np.clip(_WORK // max(work, 1), _FEWEST, _MOST))
