"""What every implementation of the log-density is held to. `kde`: called with x, support and bandwidth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from leakrt.core.density import log_density_reference


def points(
    batch: int, count: int, dimension: int, *, scale: float = 1.0, key: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """x float32 [batch, dimension] and a support float32 [count, dimension]."""
    rng = np.random.default_rng(key)
    x = rng.normal(scale=scale, size=(batch, dimension)).astype(np.float32)
    return x, rng.normal(scale=scale, size=(count, dimension)).astype(np.float32)


def assert_far_is_finite_and_right(kde: Callable[..., np.ndarray]) -> None:
    """Far from the support, where every kernel underflows."""
    x, support = np.full((1, 128), 1e4, np.float32), np.zeros((700, 128), np.float32)
    np.testing.assert_allclose(kde(x, support, 0.1), log_density_reference(x, support, 0.1), rtol=1e-12)


def assert_what_is_not_finite_shows(kde: Callable[..., np.ndarray]) -> None:
    """In the row it stands in; in every row where it stands in the support."""
    _, support = points(0, 600, 5)
    x = np.zeros((3, 5), np.float32)
    x[0, 2], x[1, 2] = np.nan, np.inf
    density = kde(x, support, 0.5)
    assert np.isnan(density[0])
    assert density[1] == -np.inf
    assert np.isfinite(density[2])
    support[300, 1] = np.nan
    assert np.isnan(kde(x, support, 0.5)).all()
