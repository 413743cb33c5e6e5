"""Native noise compared with core.noise: words and noising bit for bit, normals within 2e-6."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakrt import _core
from leakrt.core import noise

TOLERANCE = 2e-6
SEEDS = st.integers(0, 2**64 - 1)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


def fresh(seed, sample, draws, steps, shape, threads=1):
    out = np.full((draws, steps, *shape), np.nan, dtype=np.float32)
    _core.fill_normals(seed, sample, out, threads=threads)
    return out


@settings(deadline=None)
@given(seed=SEEDS, rows=st.integers(0, 70), key=st.integers(0, 2**32 - 1))
def test_words_are_the_reference_bit_for_bit(seed, rows, key):
    counter = np.random.default_rng(key).integers(0, 2**32, (rows, 4), dtype=np.uint32)
    np.testing.assert_array_equal(_core.philox_words(counter, seed), noise.philox4x32(counter, seed))


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, sample=st.integers(0, 2**32 - 1), draws=st.integers(1, 3), steps=st.integers(1, 5), shape=SHAPES)
def test_normals_are_the_reference_within_tolerance(seed, sample, draws, steps, shape):
    expected = noise.normals(seed, sample, draws, steps=steps, shape=shape)
    assert np.abs(fresh(seed, sample, draws, steps, shape) - expected).max() <= TOLERANCE


def test_half_a_million_normals_are_within_tolerance():
    expected = noise.normals(123, 4, 1, steps=1, shape=(500_003,))
    assert np.abs(fresh(123, 4, 1, 1, (500_003,)) - expected).max() <= TOLERANCE


@pytest.mark.parametrize("shape", [(4, 21, 12), (4, 55, 33), (1, 1, 1), (4, 32, 32), (3,), ()])
@pytest.mark.parametrize("threads", [0, 1, 2, 3, 16])
def test_results_do_not_depend_on_threads(shape, threads):
    one, many = fresh(9, 7, 3, 8, shape), fresh(9, 7, 3, 8, shape, threads)
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, many)


def test_results_do_not_depend_on_threads_for_large_work():
    shape = (4, 101, 103)
    np.testing.assert_array_equal(fresh(1, 2, 2, 3, shape), fresh(1, 2, 2, 3, shape, threads=4))


def arguments(batch, draws, steps, shape):
    rng = np.random.default_rng(batch * 100 + steps)
    latents = rng.normal(size=(batch, *shape)).astype(np.float32)
    return latents, noise.normals(3, 0, draws, steps=steps, shape=shape), rng.normal(size=(steps, 2)).astype(np.float32)


@settings(deadline=None, max_examples=50)
@given(batch=st.integers(0, 4), draws=st.integers(1, 3), steps=st.integers(1, 5), shape=SHAPES)
def test_noising_from_a_bank_is_the_reference_bit_for_bit(batch, draws, steps, shape):
    latents, bank, c = arguments(batch, draws, steps, shape)
    np.testing.assert_array_equal(_core.noise_steps(latents, bank, c), noise.noise_steps(latents, bank, c))


@pytest.mark.parametrize("threads", [0, 1, 2, 5])
def test_noising_writes_into_out_on_any_number_of_threads(threads):
    latents, bank, c = arguments(7, 2, 8, (4, 55, 33))
    out = np.full((14, 8, 4, 55, 33), np.nan, dtype=np.float32)
    assert _core.noise_steps(latents, bank, c, out=out, threads=threads) is out
    np.testing.assert_array_equal(out, noise.noise_steps(latents, bank, c))


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("shape", [(4, 32, 32), (4, 21, 12), (1, 1, 3)])
def test_fresh_noise_depends_on_the_sample(shape, threads):
    latents, _, c = arguments(3, 2, 5, shape)
    samples = np.array([5, 0, 5], dtype=np.uint32)
    out = np.full((6, 5, *shape), np.nan, dtype=np.float32)
    assert _core.noise_steps_fresh(latents, c, 17, samples, 2, out, threads) is out
    for b, sample in enumerate(samples):
        kept = fresh(17, int(sample), 2, 5, shape)
        np.testing.assert_array_equal(out[2 * b : 2 * b + 2], _core.noise_steps(latents[b : b + 1], kept, c))


def test_an_empty_batch_gives_an_empty_result():
    latents, bank, c = arguments(0, 2, 3, (4, 5, 7))
    assert _core.noise_steps(latents, bank, c).shape == (0, 3, 4, 5, 7)
    none = np.empty(0, dtype=np.uint32)
    assert _core.noise_steps_fresh(latents, c, 1, none, 2).shape == (0, 3, 4, 5, 7)
    assert _core.philox_words(np.empty((0, 4), np.uint32), 1).shape == (0, 4)
    assert fresh(1, 1, 0, 3, (5,)).shape == (0, 3, 5)


def test_seed_and_sample_wrap_as_in_the_reference():
    np.testing.assert_array_equal(fresh(3, 1, 1, 1, (8,)), fresh(3 + 2**64, 1 + 2**32, 1, 1, (8,)))
    np.testing.assert_array_equal(fresh(-1, 0, 1, 1, (8,)), fresh(2**64 - 1, 0, 1, 1, (8,)))
