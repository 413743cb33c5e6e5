"""Density support and prototypes."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import load, save

from leakrt.core.errors import BundleError
from leakrt.core.support import Support

RNG = np.random.default_rng(8)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def support(**changes) -> Support:
    parts = {"mean": floats(5), "projection": floats(5, 3), "points": floats(7, 3), "bandwidth": 0.25}
    return Support(**{**parts, "prototypes": floats(2, 4, 5), **changes})


def test_a_support_round_trips_through_its_bytes():
    original = support()
    again = Support.from_bytes(original.to_bytes())
    for name in ("mean", "projection", "points", "prototypes"):
        assert np.array_equal(getattr(again, name), getattr(original, name))
    assert again.bandwidth == 0.25


def test_projecting_a_row_does_not_depend_on_its_batch():
    fitted, embedding = support(), floats(33, 5)
    whole = fitted.project(embedding)
    np.testing.assert_allclose(whole, (embedding - fitted.mean) @ fitted.projection, atol=1e-5)
    for i in (0, 7, 32):
        assert np.array_equal(fitted.project(embedding[i : i + 1])[0], whole[i])


def test_projecting_no_rows_gives_no_rows():
    assert support().project(floats(0, 5)).shape == (0, 3)


def test_distances_are_gated_and_squared():
    fitted, h, w = support(), floats(5), np.abs(floats(5))
    (found,) = fitted.prototype_distances(h, w, branches=1)
    assert found.shape == (2, 4)
    expected = sum(float(w[i]) * float(h[i] - fitted.prototypes[1, 2, i]) ** 2 for i in range(5))
    assert found[1, 2] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": floats(4)},
        {"projection": floats(5)},
        {"points": floats(7, 2)},
        {"points": floats(0, 3)},
        {"prototypes": floats(2, 5)},
        {"prototypes": floats(2, 4, 6)},
        {"bandwidth": 0.0},
        {"bandwidth": float("nan")},
        {"bandwidth": float("inf")},
        {"mean": np.full(5, np.nan, np.float32)},
    ],
)
def test_invalid_shapes_and_values_are_rejected(changes):
    with pytest.raises(BundleError, match="wrong shapes or values"):
        support(**changes)


@pytest.mark.parametrize("data", [b"", b"\xff" * 64, b"{}"])
def test_bytes_that_are_not_safetensors_are_rejected(data):
    with pytest.raises(BundleError, match="the density support can't be read"):
        Support.from_bytes(data)


def test_unexpected_tensors_are_rejected():
    tensors = load(support().to_bytes())
    for changed in (
        tensors | {"extra": floats(1)},
        {k: v for k, v in tensors.items() if k != "mean"},
        tensors | {"mean": tensors["mean"].astype(np.float64)},
    ):
        with pytest.raises(BundleError, match="must hold float32 mean, projection"):
            Support.from_bytes(save(changed))
    with pytest.raises(BundleError, match="bandwidth is not one number"):
        Support.from_bytes(save(tensors | {"bandwidth": floats(2)}))
