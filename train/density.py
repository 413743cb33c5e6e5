"""Fitting the density of embeddings: projection, support points and bandwidth.

What is fitted where: mean, projection and points come from training embeddings, the bandwidth from the likelihood of
validation embeddings, which the points have never seen. A training point judged by a density that holds the point
itself would ask for a bandwidth near zero.

The projection is a PCA to as many directions as separate the classes, K - 1, not whitened. It was chosen by leaving
three closed classes at a time out of training and telling them from the others (mean AUROC of three such folds, one
seed, bandwidth by likelihood, K = 7; 0.594 at P = K - 1 = 6):

| projection                        | P = 4 | P = 8 | P = 16 | P = 32 |
| PCA                               | 0.586 | 0.585 | 0.569  | 0.560  |
| PCA, whitened                     | 0.579 | 0.534 | 0.403  | 0.294  |
| whitened within classes, then PCA | 0.596 | 0.590 | 0.482  | 0.373  |

Whitening blows up directions in which a trained encoder has learned nothing. Density by class, of the likeliest class
alone, relative to one Gaussian, and on embeddings of unit length were no better within the spread of the folds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .. import _core
from ..core.errors import DataError
from ..core.support import Array, Support

MAX_POINTS = 3000
MIN_DIMENSIONS = 4  # however few classes there are
_EIGENVALUE_FLOOR = 1e-6  # relative to the largest: below, a direction has no spread
_BANDWIDTHS = np.geomspace(0.02, 3.0, 50)  # over the points' root mean square deviation


def fit_support(train: Array, val: Array, prototypes: Array, *, seed: int = 0) -> Support:
    """Fit the support to embeddings float32 [N, D] of training and [V, D] of validation images.

    `prototypes` float32 [K, M, D] are carried along. More than 3,000 training images are thinned at random, seeded.
    Raises DataError when there are too few images or an embedding is not finite.
    """
    if len(train) < 8 or len(val) < 2:
        raise DataError(f"{len(train)} training and {len(val)} validation images can't support a density; 8 and 2 can")
    if not (np.isfinite(train).all() and np.isfinite(val).all()):
        raise DataError("an embedding is not finite; train the run again with a lower learning rate")
    mean, projection = principal_directions(train, max(MIN_DIMENSIONS, len(prototypes) - 1))
    kept = np.sort(np.random.default_rng(seed).permutation(len(train))[:MAX_POINTS])
    draft = Support(
        mean=mean,
        projection=projection,
        points=np.zeros((1, projection.shape[1]), np.float32),
        bandwidth=1.0,
        prototypes=prototypes,
    )
    points = draft.project(np.ascontiguousarray(train[kept]))
    bandwidth = fit_bandwidth(points, draft.project(val))
    return Support(
        mean=mean,
        projection=projection,
        points=points,
        bandwidth=bandwidth,
        prototypes=np.ascontiguousarray(prototypes, np.float32),
    )


def principal_directions(embeddings: Array, count: int) -> tuple[Array, Array]:
    """Mean [D] and the `count` orthonormal directions of largest variance [D, P]; fewer where there is no spread.

    Raises DataError when the embeddings are all the same.
    """
    mean = embeddings.mean(axis=0, dtype=np.float64)
    covariance = np.atleast_2d(np.cov((embeddings - mean).T.astype(np.float64)))
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[0] <= 0:
        raise DataError("all training images have the same embedding; the run did not learn, train it again")
    usable = int((values > _EIGENVALUE_FLOOR * values[0]).sum())
    # An eigenvector's sign is arbitrary: fix it, so that equal embeddings give equal files.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    projection = (vectors * signs)[:, : min(count, usable)]
    return mean.astype(np.float32), np.ascontiguousarray(projection, np.float32)


def fit_bandwidth(points: Array, held_out: Array) -> float:
    """The bandwidth under which `held_out` [V, P] is likeliest given `points` [N, P] (cross-validated likelihood)."""
    deviation = float(np.sqrt(points.var(axis=0, dtype=np.float64).mean()))
    bandwidths = (_BANDWIDTHS * deviation).astype(np.float32)
    likelihood = [float(log_density(points, held_out, float(b)).mean()) for b in bandwidths]
    return float(bandwidths[int(np.argmax(likelihood))])


def log_density(points: Array, x: Array, bandwidth: float) -> npt.NDArray[np.float64]:
    """Log-density float64 [B] of projected embeddings x [B, P]."""
    return _core.kde_log_density(np.ascontiguousarray(x), np.ascontiguousarray(points), bandwidth)


def support_log_density(support: Support, embedding: Array) -> npt.NDArray[np.float64]:
    """Log-density float64 [B] of embeddings [B, D] under a fitted support."""
    return log_density(support.points, support.project(embedding), support.bandwidth)
