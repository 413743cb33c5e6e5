"""Fitting the density of embeddings."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")
from leakrt.core.errors import DataError
from leakrt.train.density import MAX_POINTS, fit_bandwidth, fit_support, principal_directions, support_log_density

PROTOTYPES = np.zeros((6, 2, 11), np.float32)


def clusters(seed: int, count: int) -> np.ndarray:
    """Six clusters of deviation 0.3 at +-4 on three axes, nearly flat in the others: float32 [count, 11]."""
    rng = np.random.default_rng(seed)
    centres = np.zeros((6, 11))
    centres[np.arange(6), np.arange(6) // 2] = np.tile([4.0, -4.0], 3)
    return (centres[rng.integers(6, size=count)] + rng.normal(0, 0.3, (count, 11))).astype(np.float32)


def test_points_off_the_clusters_are_less_dense_than_unseen_members():
    support = fit_support(clusters(0, 600), clusters(1, 200), PROTOTYPES)
    inside = support_log_density(support, clusters(2, 200))
    outside = support_log_density(support, np.full((1, 11), 2.0, np.float32))
    assert outside[0] < inside.min()


def test_as_many_directions_as_separate_the_classes_are_kept():
    assert fit_support(clusters(0, 600), clusters(1, 200), PROTOTYPES).projection.shape == (11, 5)
    assert fit_support(clusters(0, 600), clusters(1, 200), PROTOTYPES[:2]).projection.shape == (11, 4)


def test_directions_are_orthonormal_and_have_the_largest_variance():
    mean, projection = principal_directions(clusters(0, 600), 3)
    assert np.allclose(projection.T @ projection, np.eye(3), atol=1e-5)
    assert np.abs(projection[:3]).sum() > 2.9
    assert np.allclose(mean, clusters(0, 600).mean(0), atol=1e-5)


def test_equal_embeddings_give_equal_files():
    first, second = (fit_support(clusters(0, 600), clusters(1, 200), PROTOTYPES).to_bytes() for _ in range(2))
    assert first == second


def test_bandwidth_fits_images_that_are_not_among_the_points():
    rng = np.random.default_rng(0)
    points, held_out = (rng.standard_normal((n, 2)).astype(np.float32) for n in (400, 300))
    fitted = fit_bandwidth(points, held_out)
    assert 0.15 < fitted < 0.8  # Scott's rule: n^(-1/6) = 0.37
    assert fit_bandwidth(points, points) < fitted / 3  # on the points themselves it would shrink to zero


def test_many_training_images_are_subsampled():
    assert len(fit_support(clusters(0, 3500), clusters(1, 50), PROTOTYPES).points) == MAX_POINTS


def test_flat_directions_are_left_out():
    train = clusters(0, 100)
    train[:, 2:] = 1.0
    assert fit_support(train, train[:20], PROTOTYPES).projection.shape[1] == 2


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (clusters(0, 5), clusters(1, 5), "are too few"),
        (np.ones((20, 11), np.float32), clusters(1, 5), "same embedding"),
        (np.full((20, 11), np.nan, np.float32), clusters(1, 5), "not finite"),
    ],
)
def test_embeddings_without_a_density_are_refused(train, val, message):
    with pytest.raises(DataError, match=message):
        fit_support(train, val, PROTOTYPES)
