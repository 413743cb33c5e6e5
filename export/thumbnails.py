"""The training images nearest to each prototype, as JPEG thumbnails for `exemplars.npz`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.exemplars import Exemplars
from ..core.images.thumbnail import thumbnail
from ..core.outputs import LeakOutputs
from ..core.support import Support

PER_PROTOTYPE = 3
SIDE = 96  # pixels


def nearest_images(
    support: Support, outputs: LeakOutputs, labels: Sequence[int], *, branches: int = 1, count: int = PER_PROTOTYPE
) -> dict[tuple[int, int], list[int]]:
    """Return the positions of the `count` images of class k nearest to each prototype (k, m) by gated distance.

    Prototype m of branch s has the index s x M + m.
    """
    found = [
        support.prototype_distances(h, w, branches=branches)
        for h, w in zip(outputs.embedding, outputs.gates, strict=True)
    ]
    distances = np.concatenate(np.stack(found, axis=1), axis=-1)  # [N, K, branches x M]
    classes = np.asarray(labels)
    nearest = {}
    for k, m in np.ndindex(*distances.shape[1:]):
        own = np.flatnonzero(classes == k)
        nearest[k, m] = [int(i) for i in own[np.argsort(distances[own, k, m], kind="stable")[:count]]]
    return nearest


def make_exemplars(nearest: dict[tuple[int, int], list[int]], paths: Sequence[str]) -> Exemplars:
    """Read and downscale the images. Raises ImageError if one can't be read."""
    wanted = sorted({i for positions in nearest.values() for i in positions})
    files = {i: thumbnail(paths[i], side=SIDE) for i in wanted}
    return Exemplars({key: tuple(files[i] for i in positions) for key, positions in nearest.items()})
