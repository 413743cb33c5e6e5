from __future__ import annotations

import numpy as np

from leakrt.train.augment import augment


def image(side=96):
    y, x = np.mgrid[0:side, 0:side]
    soft = np.stack([120 + 60 * np.sin(x / 9 + k) + 40 * np.cos(y / 7) for k in range(3)], axis=-1)
    return np.clip(soft + np.random.default_rng(0).normal(0, 3, soft.shape), 0, 255).astype(np.uint8)


def test_a_copy_is_a_function_of_the_generator_and_leaves_the_image_alone():
    original = image()
    before = original.copy()
    copies = [augment(original, np.random.default_rng([seed, 7])) for seed in range(60)]
    again = [augment(original, np.random.default_rng([seed, 7])) for seed in range(60)]
    assert all(np.array_equal(a, b) for a, b in zip(copies, again, strict=True))
    assert np.array_equal(original, before)
    assert all(copy.shape == original.shape and copy.dtype == np.uint8 for copy in copies)
    assert len({copy.tobytes() for copy in copies}) > 50


def test_copies_still_show_the_picture():
    original = image().astype(float)
    copies = [augment(image(), np.random.default_rng(seed)).astype(float) for seed in range(40)]
    likeness = [np.corrcoef(original[24:72, 24:72].ravel(), copy[24:72, 24:72].ravel())[0, 1] for copy in copies]
    assert np.median(likeness) > 0.9
