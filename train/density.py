"""Fitting of the kernel density of embeddings: projection, support points and bandwidth.

Mean, projection and points come from training embeddings. The bandwidth maximises the likelihood of validation
embeddings: on training embeddings, which are among the points, it would shrink to zero.

The projection is a PCA to K - 1 directions, as many as separate K classes. It is not whitened, since whitening
amplifies directions that carry no information.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .. import _core
from ..core.errors import DataError
from ..core.support import Array, Support

MAX_POINTS = 3000
MIN_DIMENSIONS = 4
_EIGENVALUE_FLOOR = 1e-6  # relative to the largest; directions below it have no variance
_BANDWIDTHS = np.geomspace(0.02, 3.0, 50)  # relative to the points' root mean square deviation


def fit_support(train: Array, val: Array, prototypes: Array, *, seed: int = 0) -> Support:
    """Fit the support to embeddings of training images, float32 [N, D], and validation images, [V, D].

    `prototypes` float32 [K, M, D] are stored unchanged. At most 3,000 training images are used, sampled with `seed`.
    Raises DataError if there are too few images or an embedding is not finite.
    """
    if len(train) < 8 or len(val) < 2:
        raise DataError(f"{len(train)} training and {len(val)} validation images are too few; give at least 8 and 2")
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
    """Return the mean [D] and up to `count` orthonormal directions of largest variance, [D, P].

    Raises DataError if all embeddings are equal.
    """
    mean = embeddings.mean(axis=0, dtype=np.float64)
    covariance = np.atleast_2d(np.cov((embeddings - mean).T.astype(np.float64)))
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = values[::-1], vectors[:, ::-1]
    if values[0] <= 0:
        raise DataError("all training images have the same embedding: the run did not learn; train it again")
    usable = int((values > _EIGENVALUE_FLOOR * values[0]).sum())
    # An eigenvector's sign is arbitrary. Fix it, so that equal embeddings give equal files.
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    projection = (vectors * signs)[:, : min(count, usable)]
    return mean.astype(np.float32), np.ascontiguousarray(projection, np.float32)


def fit_bandwidth(points: Array, held_out: Array) -> float:
    """Return the bandwidth that maximises the likelihood of `held_out` [V, P] given `points` [N, P]."""
    deviation = float(np.sqrt(points.var(axis=0, dtype=np.float64).mean()))
    bandwidths = (_BANDWIDTHS * deviation).astype(np.float32)
    likelihood = [float(log_density(points, held_out, float(b)).mean()) for b in bandwidths]
    return float(bandwidths[int(np.argmax(likelihood))])


def log_density(points: Array, x: Array, bandwidth: float) -> npt.NDArray[np.float64]:
    """Log-density float64 [B] of projected embeddings x [B, P]."""
    return _core.kde_log_density(np.ascontiguousarray(x), np.ascontiguousarray(points), bandwidth)


def support_log_density(support: Support, embedding: Array) -> npt.NDArray[np.float64]:
    """Return the log-density float64 [B] of embeddings [B, D] under a fitted support."""
    return log_density(support.points, support.project(embedding), support.bandwidth)
