"""A map of embeddings in two dimensions, for people: classes, unseen makers and the nearest prototypes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..core.outputs import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PERPLEXITY = 30.0
_MAX_POINTS = 3000  # a larger set is sampled with a fixed seed


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """Embeddings to draw, each of a group."""

    embeddings: Array  # [N, D]
    groups: tuple[str, ...]  # [N] class names, and UNSEEN for images of an open set
    prototypes: Array  # [P, D]


UNSEEN = "unseen makers"


def draw_map(axes: Axes, data: EmbeddingMap) -> None:
    """Draw the map by t-SNE (van der Maaten & Hinton, 2008), started from principal components, with a fixed seed.

    Distances on it are not distances of the density: near points are alike, far ones need not differ by as much.
    """
    from matplotlib import color_sequences

    chosen = _sample(len(data.groups))
    groups = [data.groups[i] for i in chosen]
    places = _places(np.concatenate([data.embeddings[chosen], data.prototypes]))
    points, marks = places[: len(chosen)], places[len(chosen) :]
    names = sorted(set(groups) - {UNSEEN}) + ([UNSEEN] if UNSEEN in groups else [])
    colours = color_sequences["tab10" if len(names) <= 11 else "tab20"]
    for k, name in enumerate(names):
        own = points[[group == name for group in groups]]
        colour = "black" if name == UNSEEN else colours[k % len(colours)]
        marker = "x" if name == UNSEEN else "o"
        axes.scatter(own[:, 0], own[:, 1], s=9, color=colour, marker=marker, linewidths=0.8, label=name)
    axes.scatter(marks[:, 0], marks[:, 1], s=60, marker="*", color="white", edgecolors="black", label="prototype")
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_title("Embeddings (t-SNE)", fontsize=10)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _sample(count: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(count)[:_MAX_POINTS])


def _places(vectors: Array) -> Array:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, max(1.0, (len(vectors) - 1) / 3))
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors)
    return np.asarray(found, np.float32)
