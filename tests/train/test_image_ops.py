from __future__ import annotations

import numpy as np
import pytest

from leakrt.train import image_ops as ops


@pytest.fixture
def image():
    y, x = np.mgrid[0:61, 0:83]
    soft = np.stack([120 + 60 * np.sin(x / 9 + k) + 40 * np.cos(y / 7) for k in range(3)], axis=-1)
    return ops.to_uint8(soft + np.random.default_rng(0).normal(0, 3, soft.shape))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: ops.jpeg(x, quality=80),
        lambda x: ops.webp(x, quality=80),
        lambda x: ops.rescale(x, 0.5),
        lambda x: ops.crop(x, top=3, left=5, side=50),
        lambda x: ops.blur(x, sigma=1.0),
        lambda x: ops.sharpen(x, sigma=1.0, amount=0.8),
        lambda x: ops.smooth(x, strength=20.0),
        ops.median,
        lambda x: ops.noise(x, sigma=5.0, draw=np.random.default_rng(1), grain=0.6),
        lambda x: ops.tone(x, gamma=0.8, contrast=1.2, white=(0.9, 1.0, 1.1)),
        lambda x: ops.replace_background(x, np.full(3, 200.0)),
    ],
)
def test_an_operation_keeps_the_size_changes_pixels_and_repeats(image, operation):
    before = image.copy()
    first, second = operation(image), operation(image)
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert np.array_equal(image, before), "the input is not written to"
    assert not np.array_equal(first, image)
    assert np.array_equal(first, second)


def test_tone_without_arguments_changes_nothing(image):
    assert np.array_equal(ops.tone(image), image)


def test_noise_has_the_standard_deviation_asked_for():
    grey = np.full((200, 200, 3), 128, np.uint8)
    added = ops.noise(grey, sigma=5.0, draw=np.random.default_rng(0)).astype(float) - 128
    assert added.std() == pytest.approx(5.0, rel=0.02)


def test_the_background_is_replaced_around_the_face_only(image):
    changed = ops.replace_background(image, np.array([10.0, 20.0, 30.0]))
    assert changed[0, 0].tolist() == [10, 20, 30]
    assert np.array_equal(changed[30, 41], image[30, 41])
