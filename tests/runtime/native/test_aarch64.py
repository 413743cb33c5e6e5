"""The inner loops on an emulated 64-bit Arm processor give the same bits as on this machine."""

from __future__ import annotations

import numpy as np
import pytest
from arm_machine import ArmMachine, compile_for_arm

for module in ("ziglang", "unicorn", "elftools"):
    pytest.importorskip(module, reason=f"{module} is needed to run Arm code here; pip install 'leakrt[dev]'")

from leakrt import _core
from leakrt.core import noise

SEED = 0x1234_5678_9ABC_DEF0


@pytest.fixture(scope="module")
def arm(tmp_path_factory):
    return ArmMachine(compile_for_arm(tmp_path_factory.mktemp("arm")))


def poisoned(*shape, dtype=np.float32):
    return np.full(shape, np.nan, dtype)


@pytest.mark.parametrize("count", [1, 3, 16, 17, 63, 64, 1027])
def test_normals_are_bit_identical(arm, count):
    here, there = poisoned(2, 3, count), poisoned(count)
    _core.fill_normals(SEED, 7, here, threads=1)
    arm.call("normals", SEED, 2, 1, 7, 0, count, there)
    np.testing.assert_array_equal(there, here[1, 2])
    assert np.abs(there - noise.normals(SEED, 7, 2, steps=3, shape=(count,))[1, 2]).max() <= 2e-6


@pytest.mark.parametrize("count", [1, 15, 515, 1024])
def test_noising_is_bit_identical(arm, count):
    latent = np.random.default_rng(count).normal(size=(1, 1, 1, count)).astype(np.float32)
    bank, pair = noise.normals(3, 0, 1, steps=1, shape=(1, 1, count)), np.array([[34.1, 0.7]], np.float32)
    there = poisoned(count)
    arm.call("noise", latent, bank, pair, count, there)
    np.testing.assert_array_equal(there, _core.noise_steps(latent, bank, pair, threads=1).ravel())
    arm.call("noise_fresh", SEED, 5, latent, pair, count, there)
    out, samples = poisoned(1, 1, 1, 1, count), np.array([5], np.uint32)
    here = _core.noise_steps_fresh(latent, pair, SEED, samples, 1, out=out, threads=1)
    np.testing.assert_array_equal(there, here.ravel())


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (4, 5), (5, 16), (9, 37)])
def test_rows_are_blended_in_the_same_order(arm, rows, width):
    draw = np.random.default_rng(rows)
    pixels = draw.integers(0, 256, (rows, width + 3), dtype=np.uint8)
    weights, there = draw.normal(size=rows).astype(np.float32), poisoned(width)
    arm.call("blend_rows", pixels, width + 3, weights, rows, width, there)
    wanted = np.zeros(width, np.float32)
    for row, weight in zip(pixels[:, :width], weights, strict=True):
        wanted = (wanted + weight * row.astype(np.float32)).astype(np.float32)
    np.testing.assert_array_equal(there, wanted)


@pytest.mark.parametrize("size", [1, 5, 64, 67])
def test_columns_are_blended_into_planes(arm, size):
    draw = np.random.default_rng(size)
    row = draw.uniform(0, 255, 3 * (size + 4) + 1).astype(np.float32)
    first, taps = np.arange(size, dtype=np.int32), draw.integers(1, 5, size).astype(np.int32)
    weights, there = draw.uniform(0, 1, (size, 4)).astype(np.float32), poisoned(3, size + 2)
    arm.call("blend_columns", row, first, taps, weights, 4, size, size + 2, there)
    pixels = row[: 3 * (size + 4)].reshape(-1, 3)
    for x in range(size):
        total = np.zeros(3, np.float32)
        for k in range(taps[x]):
            total = total + pixels[first[x] + k] * weights[x, k]
        np.testing.assert_array_equal(there[::-1, x], total / np.float32(127.5) - np.float32(1))
    assert np.isnan(there[:, size:]).all()


def test_a_row_that_fits_is_only_converted(arm):
    row, there = np.arange(3 * 85, dtype=np.uint8).reshape(85, 3), poisoned(3, 85)
    arm.call("convert_row", row, 85, 85, there)
    np.testing.assert_array_equal(there, row[:, ::-1].T.astype(np.float32) / np.float32(127.5) - np.float32(1))


@pytest.mark.parametrize(("count", "dimension"), [(1, 1), (5, 7), (3, 8), (4, 21)])
def test_distances_have_the_same_order_of_sums(arm, count, dimension):
    draw = np.random.default_rng(dimension)
    x, support = (draw.normal(size=shape).astype(np.float32) for shape in ((dimension,), (count, dimension)))
    there = poisoned(count, dtype=np.float64)
    arm.call("scaled_distances", x, support, count, dimension, np.array([-0.5]), there)
    squares = (x.astype(np.float64) - support) ** 2
    lanes = np.zeros((count, 8))
    for d in range(dimension):
        lanes[:, d % 8] += squares[:, d]
    pairs = lanes[:, :4] + lanes[:, 4:]
    np.testing.assert_array_equal(there, -0.5 * ((pairs[:, 0] + pairs[:, 1]) + (pairs[:, 2] + pairs[:, 3])))
