"""The noise reference: known answers, ranges, statistics and independence."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt.core import noise

# From the test vectors of Random123, the reference implementation by Philox's authors.
KNOWN = [
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 0xFFFFFFFFFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "seed", "words"), KNOWN)
def test_philox_gives_the_published_words(counter, seed, words):
    assert noise.philox4x32(np.array([counter], dtype=np.uint32), seed).tolist() == [list(words)]


def test_extreme_words_give_finite_normals():
    words = np.array([[0, 0, 0, 0], [0xFFFFFFFF] * 4, [0, 0xFFFFFFFF, 0xFFFFFFFF, 0]], dtype=np.uint32)
    normals = noise.box_muller(words)
    assert np.isfinite(normals).all()
    # The smallest uniform is 2^-25, so that no normal exceeds sqrt(50 log 2).
    assert np.abs(normals).max() <= np.sqrt(50 * np.log(2)) + 1e-6
    assert normals[0, 0] == np.abs(normals).max()


def test_a_million_normals_have_the_moments_of_a_normal():
    x = noise.normals(seed=11, sample=0, draws=1, steps=4, shape=(250_000,)).astype(np.float64).ravel()
    error = 5 / np.sqrt(x.size)
    assert abs(x.mean()) < error
    assert abs((x**2).mean() - 1) < error * np.sqrt(2)
    assert abs((x**3).mean()) < error * np.sqrt(15)
    assert abs((x**4).mean() - 3) < error * np.sqrt(96)


@pytest.mark.parametrize("axis", ["seed", "sample", "draw", "step"])
def test_noise_along_each_axis_is_uncorrelated(axis):
    a = noise.normals(seed=5, sample=2, draws=2, steps=2, shape=(40_000,))
    other = {
        "seed": lambda: noise.normals(6, 2, 1, steps=1, shape=(40_000,))[0, 0],
        "sample": lambda: noise.normals(5, 3, 1, steps=1, shape=(40_000,))[0, 0],
        "draw": lambda: a[1, 0],
        "step": lambda: a[0, 1],
    }[axis]()
    assert abs(np.corrcoef(a[0, 0], other)[0, 1]) < 5 / np.sqrt(40_000)


@pytest.mark.parametrize("elements", [1, 2, 3, 4, 5, 7, 63])
def test_a_shorter_latent_has_the_first_numbers_of_a_longer_one(elements):
    long = noise.normals(1, 0, 2, steps=3, shape=(64,))
    short = noise.normals(1, 0, 2, steps=3, shape=(elements,))
    assert short.shape == (2, 3, elements)
    np.testing.assert_array_equal(short, long[..., :elements])


def test_seed_and_sample_wrap():
    a = noise.normals(3, 1, 1, steps=1, shape=(8,))
    np.testing.assert_array_equal(a, noise.normals(3 + 2**64, 1 + 2**32, 1, steps=1, shape=(8,)))


def test_noise_steps_is_the_loop_over_samples_draws_and_steps():
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(3, 4, 5, 7)).astype(np.float32)
    bank = noise.normals(0, 0, 2, steps=3, shape=(4, 5, 7))
    c = rng.normal(size=(3, 2)).astype(np.float32)
    u = noise.noise_steps(latents, bank, c)
    assert u.shape == (6, 3, 4, 5, 7)
    for b in range(3):
        for draw in range(2):
            for t in range(3):
                np.testing.assert_array_equal(u[b * 2 + draw, t], c[t, 0] * latents[b] + c[t, 1] * bank[draw, t])
