"""Argument checks of the native core and their messages."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt import _core

LATENTS = np.zeros((2, 4, 5, 7), np.float32)
BANK = np.zeros((1, 3, 4, 5, 7), np.float32)
C = np.zeros((3, 2), np.float32)
SAMPLES = np.zeros(2, np.uint32)
FRAME = np.zeros((9, 8, 3), np.uint8)
IMAGE = np.zeros((3, 6, 6), np.float32)


def read_only(array):
    copy = array.copy()
    copy.flags.writeable = False
    return copy


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _core.noise_steps([1.0], BANK, C), "latents has to be a float32 NumPy array"),
        (lambda: _core.noise_steps(LATENTS.astype(np.float64), BANK, C), "latents has to be float32"),
        (lambda: _core.noise_steps(LATENTS, BANK, None), "coefficients has to be a float32 NumPy array"),
        (lambda: _core.noise_steps_fresh(LATENTS, C, 0, SAMPLES.astype(np.int64)), "samples has to be uint32"),
        (lambda: _core.noise_steps_fresh(LATENTS, C, "a", SAMPLES), "seed has to be an integer"),
        (lambda: _core.noise_steps_fresh(LATENTS, C, 1.5, SAMPLES), "seed has to be an integer"),
        (lambda: _core.fill_normals(0, None, BANK), "sample has to be an integer"),
        (lambda: _core.fill_normals(0, 0, read_only(BANK)), "out has to be a writable float32 NumPy array"),
        (lambda: _core.preprocess(FRAME.astype(np.float32), IMAGE), "frame has to be uint8"),
        (lambda: _core.preprocess(FRAME, read_only(IMAGE)), "out has to be a writable float32"),
    ],
)
def test_a_wrong_type_is_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: _core.noise_steps(LATENTS[0], BANK, C), r"latents has shape \[4, 5, 7\]"),
        (lambda: _core.noise_steps(LATENTS, BANK[:, :2], C), r"coefficients has shape \[3, 2\]; \[2, 2\] is needed"),
        (lambda: _core.noise_steps(LATENTS[:, :2].copy(), BANK, C), r"bank has shape .*; \[\*, \*, 2, 5, 7\]"),
        (lambda: _core.noise_steps(LATENTS[..., ::2], BANK, C), "latents is not contiguous"),
        (lambda: _core.noise_steps(LATENTS, BANK, C, out=BANK), "out has shape"),
        (lambda: _core.noise_steps(LATENTS, BANK, C, threads=-1), "threads is -1"),
        (lambda: _core.noise_steps_fresh(LATENTS, C, 0, SAMPLES[:1]), r"samples has shape \[1\]; \[2\] is needed"),
        (lambda: _core.noise_steps_fresh(LATENTS, C, 0, SAMPLES, draws=0), "draws is 0"),
        (lambda: _core.fill_normals(0, 0, np.zeros(3, np.float32)), "out has fewer axes"),
        (lambda: _core.fill_normals(0, 0, BANK[..., ::2]), "out is not contiguous"),
        (lambda: _core.philox_words(np.zeros((2, 3), np.uint32), 0), r"counter has shape \[2, 3\]; \[\*, 4\]"),
        (lambda: _core.preprocess(FRAME[:, ::2], IMAGE), "frame is not contiguous"),
        (lambda: _core.preprocess(FRAME[..., ::-1], IMAGE), "frame is not contiguous"),
        (lambda: _core.preprocess(FRAME[..., :2], IMAGE), r"frame has shape \[9, 8, 2\]"),
        (lambda: _core.preprocess(FRAME[:0], IMAGE), "no pixel"),
        (lambda: _core.preprocess(FRAME, np.zeros((3, 6, 7), np.float32)), r"\[3, S, S\] is needed"),
        (lambda: _core.preprocess(FRAME, np.zeros((3, 0, 0), np.float32)), r"\[3, S, S\] is needed"),
    ],
)
def test_a_wrong_value_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_outputs_may_not_overlap_inputs():
    memory = np.zeros(6 * 140 + 280, np.float32)
    latents, out = memory[:280].reshape(2, 4, 5, 7), memory[140:980].reshape(2, 3, 4, 5, 7)
    with pytest.raises(ValueError, match="out overlaps latents"):
        _core.noise_steps(latents, BANK, C, out=out)
    words = np.zeros((3, 4), np.uint32)
    with pytest.raises(ValueError, match="out overlaps counter"):
        _core.philox_words(words, 0, out=words)


def test_numpy_integers_are_accepted():
    a, b = np.zeros_like(BANK), np.zeros_like(BANK)
    _core.fill_normals(np.uint64(2**63 + 1), np.int32(3), a)
    _core.fill_normals(2**63 + 1, 3, b)
    np.testing.assert_array_equal(a, b)
