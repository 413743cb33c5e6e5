"""The noising kernels, run on the host, compared with core.noise and leakrt._core."""

from __future__ import annotations

import cuda_twin as twin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakrt import _core, _grid
from leakrt.core import noise

TYPES = st.sampled_from(["float32", "float16"])
ELEMENTS = st.one_of(st.integers(1, 70), st.sampled_from([64, 128, 256, 1764]))


def arguments(batch, draws, steps, elements, latents_type="float32", key=0):
    rng = np.random.default_rng(key)
    latents = rng.normal(size=(batch, elements)).astype(latents_type)
    return (
        latents,
        noise.normals(3, 0, draws, steps=steps, shape=(elements,)),
        rng.normal(size=(steps, 2)).astype(np.float32),
    )


def reference(latents, bank, c):
    """Return the result of core.noise, float32 [B x draws, T, E]."""
    shaped = latents.astype(np.float32)[:, None, None], bank[:, :, None, None]
    return noise.noise_steps(*shaped, c).reshape(-1, *bank.shape[1:])


@settings(deadline=None, max_examples=80)
@given(batch=st.integers(1, 9), draws=st.integers(1, 3), steps=st.integers(1, 5), elements=ELEMENTS,
       latents_type=TYPES, out_type=TYPES, aligned=st.booleans())  # fmt: skip
def test_noising_is_the_reference_bit_for_bit(batch, draws, steps, elements, latents_type, out_type, aligned):
    latents, bank, c = arguments(batch, draws, steps, elements, latents_type)
    found = twin.noise_steps(latents, bank, c, out_type, shift=0 if aligned else 4)
    np.testing.assert_array_equal(found, reference(latents, bank, c).astype(out_type))


@settings(deadline=None, max_examples=60)
@given(batch=st.integers(1, 5), draws=st.integers(1, 3), steps=st.integers(1, 4), elements=ELEMENTS,
       latents_type=TYPES, out_type=TYPES, seed=st.integers(0, 2**64 - 1))  # fmt: skip
def test_fresh_noise_is_the_cores_bit_for_bit(batch, draws, steps, elements, latents_type, out_type, seed):
    latents, _, c = arguments(batch, draws, steps, elements, latents_type)
    samples = np.arange(batch, dtype=np.uint32)[::-1] * np.uint32(77)
    shaped = np.ascontiguousarray(latents.astype(np.float32)[:, :, None, None])
    expected = _core.noise_steps_fresh(shaped, c, seed, np.ascontiguousarray(samples), draws)[..., 0, 0]
    found = twin.noise_steps_fresh(latents, c, seed, np.ascontiguousarray(samples), draws, out_type)
    np.testing.assert_array_equal(found, expected.astype(out_type))


@settings(deadline=None, max_examples=40)
@given(draws=st.integers(1, 3), steps=st.integers(1, 5), elements=ELEMENTS, seed=st.integers(0, 2**64 - 1),
       sample=st.integers(0, 2**32 - 1), aligned=st.booleans())  # fmt: skip
def test_the_bank_is_the_cores_bit_for_bit(draws, steps, elements, seed, sample, aligned):
    expected = np.empty((draws, steps, elements), np.float32)
    _core.fill_normals(seed, sample, expected)
    found = twin.fill_normals(seed, sample, draws, steps, (elements,), shift=0 if aligned else 4)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("latents_type", ["float32", "float16"])
@pytest.mark.parametrize("out_type", ["float32", "float16"])
def test_a_batch_large_enough_for_four_latents_per_thread(latents_type, out_type):
    # 1 x 1 x 8 elements and 64 planes: kEnoughThreads of 2^17 is reached with few bytes.
    latents, bank, c = arguments(8195, 1, 64, 8, latents_type)
    found = twin.noise_steps(latents, bank, c, out_type)
    np.testing.assert_array_equal(found, reference(latents, bank, c).astype(out_type))


def test_special_values_pass_through():
    latents = np.array([[np.inf, -np.inf, np.nan, 0.0, 65504.0, 1e-8, 1e30, -0.0]], np.float32)
    bank, c = np.zeros((1, 1, 8), np.float32), np.ones((1, 2), np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(twin.noise_steps(latents, bank, c, "float16")[0], latents.astype(np.float16))


def test_an_empty_batch_writes_nothing():
    latents, bank, c = arguments(0, 2, 3, 16)
    assert twin.noise_steps(latents, bank, c).shape == (0, 3, 16)


def test_every_float16_is_read_as_numpy_reads_it():
    bits = np.arange(2**16, dtype=np.uint32)
    found = np.empty(2**16, np.float32)
    _grid.from_half(bits, found)
    np.testing.assert_array_equal(found, bits.astype(np.uint16).view(np.float16).astype(np.float32))


def test_float32_is_rounded_to_float16_as_numpy_rounds_it():
    rng = np.random.default_rng(0)
    halves = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16).astype(np.float32)
    halves = halves[np.isfinite(halves)]
    between = np.nextafter(halves, np.float32(np.inf)), np.nextafter(halves, np.float32(-np.inf))
    middles = (halves.astype(np.float64)[:-1] + halves.astype(np.float64)[1:]) / 2
    wild = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    edges = np.float32([65504, 65519.996, 65520, 65536, 5.96e-8, 2.98e-8, 2.9802322e-8, 2.9802326e-8, 6.1e-5])
    values = np.concatenate([halves, *between, middles.astype(np.float32), wild, edges, -edges])
    found = np.empty(len(values), np.uint32)
    _grid.to_half(values, found)
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(found.astype(np.uint16).view(np.float16), values.astype(np.float16))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latents_type": "int8"}, "latents_type is int8; float32 or float16"),
        ({"latents": 0}, "latents is a null address"),
        ({"out": 6}, "out is not aligned"),
        ({"coefficients": np.zeros((65, 2), np.float32)}, "the number of steps is 65, .* at most 64"),
        ({"batch": 2**33}, "the batch is 8589934592"),
    ],
)
def test_invalid_arguments_are_refused(changes, message):
    call = {
        "latents": 64, "latents_type": "float32", "bank": 64, "coefficients": np.zeros((3, 2), np.float32), "out": 64,
        "out_type": "float32", "batch": 1, "draws": 1, "elements": 8,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        _grid.noise_steps(**{**call, **changes})
