"""The log-density reference: closed form, normalisation and far tails."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt.core.density import log_density_reference


def test_one_support_point_gives_a_gaussian():
    x = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]], dtype=np.float32)
    density = log_density_reference(x, np.zeros((1, 3), dtype=np.float32), 0.5)
    peak = -1.5 * np.log(2 * np.pi * 0.25)
    np.testing.assert_allclose(density, [peak, peak - 9 / (2 * 0.25)], rtol=1e-12)


def test_it_integrates_to_one():
    grid = np.linspace(-6, 6, 4001, dtype=np.float32)[:, None]
    density = log_density_reference(grid, np.array([[-1.0], [0.5], [2.0]], dtype=np.float32), 0.3)
    assert abs(np.exp(density).sum() * 0.003 - 1) < 1e-5


def test_far_from_the_support_it_stays_finite():
    support = np.zeros((7, 4), dtype=np.float32)
    density = log_density_reference(np.full((1, 4), 1e4, dtype=np.float32), support, 0.1)
    assert np.isfinite(density).all()
    assert density[0] < -1e9


@pytest.mark.parametrize(("count", "bandwidth"), [(0, 0.5), (3, 0.0), (3, -1.0), (3, float("nan"))])
def test_an_empty_support_or_invalid_bandwidth_is_rejected(count, bandwidth):
    with pytest.raises(ValueError, match="support"):
        log_density_reference(np.zeros((1, 2), np.float32), np.zeros((count, 2), np.float32), bandwidth)
