"""Rendered portraits, before any camera."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from leakrt.demo.scenes import render_scene


@pytest.mark.parametrize("size", [64, 96, 128])
def test_a_scene_is_linear_light_within_its_range(size):
    scene = render_scene(np.random.default_rng(0), size)
    assert scene.shape == (size, size, 3)
    assert scene.dtype == np.float32
    assert 0 <= scene.min() < scene.max() <= 1


def test_a_scene_is_a_function_of_its_numbers_alone():
    first, again, other = (render_scene(np.random.default_rng(seed), 64) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.abs(first - other).mean() > 0.01
