"""A map of embeddings in two dimensions, for people: classes, unseen makers and prototypes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..core.outputs import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PERPLEXITY = 30.0
_MAX_POINTS = 3000  # a larger set is sampled with a fixed seed
_MARKED = 3  # images that a prototype must be nearest to, to be drawn


@dataclass(frozen=True, kw_only=True)
class EmbeddingMap:
    """Embeddings to draw, each of a group."""

    embeddings: Array  # [N, D]
    groups: tuple[str, ...]  # [N] class names, and UNSEEN for images of an open set
    prototypes: tuple[str, ...]  # [N] the prototype that each is nearest to


UNSEEN = "unseen makers"


def draw_map(axes: Axes, data: EmbeddingMap) -> None:
    """Draw the map by t-SNE (van der Maaten & Hinton, 2008), started from principal components, with a fixed seed.

    A prototype is drawn at the mean place of the images that are nearest to it. Distances on the map are not those of
    the density: near points are alike, but far ones need not differ by as much.
    """
    from matplotlib import color_sequences

    chosen = _sample(len(data.groups))
    groups = [data.groups[i] for i in chosen]
    points = _places(data.embeddings[chosen])
    names = sorted(set(groups) - {UNSEEN}) + ([UNSEEN] if UNSEEN in groups else [])
    colours = color_sequences["tab10" if len(names) <= 11 else "tab20"]
    for k, name in enumerate(names):
        own = points[[group == name for group in groups]]
        colour = "black" if name == UNSEEN else colours[k % len(colours)]
        marker = "x" if name == UNSEEN else "o"
        axes.scatter(own[:, 0], own[:, 1], s=9, color=colour, marker=marker, linewidths=0.8, label=name)
    marks = _centres(points, [data.prototypes[i] for i in chosen])
    if len(marks):
        axes.scatter(marks[:, 0], marks[:, 1], s=60, marker="*", color="white", edgecolors="black", label="prototype")
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.set_title("Embeddings (t-SNE)", fontsize=10)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _sample(count: int) -> npt.NDArray[np.int64]:
    return np.sort(np.random.default_rng(0).permutation(count)[:_MAX_POINTS])


def _centres(points: Array, prototypes: list[str]) -> Array:
    counts = Counter(prototypes)
    names = sorted(name for name, count in counts.items() if count >= _MARKED)
    means = [points[[name == other for other in prototypes]].mean(axis=0) for name in names]
    return np.array(means, np.float32).reshape(-1, 2)


def _places(vectors: Array) -> Array:
    from sklearn.manifold import TSNE

    perplexity = min(_PERPLEXITY, max(1.0, (len(vectors) - 1) / 3))
    found = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(vectors)
    return np.asarray(found, np.float32)
