"""The preprocessing kernel, run on the host, compared with core.preprocess and torchvision."""

from __future__ import annotations

import runpy
from pathlib import Path

import cuda_twin as twin
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakrt import _grid
from leakrt.core.preprocess import preprocess_reference

GOLDEN = Path(__file__).parents[2] / "golden"
MAKER = runpy.run_path(str(GOLDEN / "make_preprocess.py"))
TOLERANCE = 2e-6


def frame(height, width, key=0):
    return np.random.default_rng(key).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(1, 70), key=st.integers(0, 2**32 - 1))
def test_it_agrees_with_the_reference_on_any_size(height, width, size, key):
    image = frame(height, width, key)
    assert np.abs(twin.preprocess([image], size)[0] - preprocess_reference(image, size)).max() <= TOLERANCE


@pytest.mark.parametrize(("height", "width", "size"), [c for c in MAKER["CASES"] if c[2] < 100])
def test_it_agrees_with_torchvision(height, width, size):
    step = MAKER["STRIDE"][size]
    with np.load(GOLDEN / "preprocess.npz", allow_pickle=False) as golden:
        expected = golden[f"{height}x{width}_{size}"]
    image = twin.preprocess([MAKER["frame"](height, width)], size)[0][:, ::step, ::step]
    assert np.abs(image - expected).max() <= 0.1 / 127.5


def test_frames_of_different_sizes_share_a_batch():
    frames = [frame(20 + 7 * i % 61, 20 + 11 * i % 53, i) for i in range(37)]  # more than one launch accepts
    found = twin.preprocess(frames, 24)
    for image, each in zip(found, frames, strict=True):
        assert np.abs(image - preprocess_reference(each, 24)).max() <= TOLERANCE


def test_float16_is_the_float32_result_rounded_once():
    frames = [frame(55, 33), frame(21, 80)]
    np.testing.assert_array_equal(
        twin.preprocess(frames, 40, "float16"), twin.preprocess(frames, 40).astype(np.float16)
    )


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (2, 3), (1, 1), (5, 4001), (3000, 900)])
def test_extreme_shapes_agree_with_the_reference(shape):
    image = frame(*shape)
    assert np.abs(twin.preprocess([image], 32)[0] - preprocess_reference(image, 32)).max() <= 4e-6


def test_a_block_computes_fewer_columns_if_shared_memory_is_too_small():
    image = frame(1300, 1400)  # 65 times as large: 64 columns would need 50 KiB of shared memory
    assert np.abs(twin.preprocess([image], 20)[0] - preprocess_reference(image, 20)).max() <= TOLERANCE
    image = np.broadcast_to(np.arange(4000)[:, None, None] % 251, (4000, 4000, 3)).astype(np.uint8)
    # 2000 float32 taps per axis: the error is still a fiftieth of the tolerance.
    assert np.abs(twin.preprocess([image], 4)[0] - preprocess_reference(image, 4)).max() <= 2e-5


@pytest.mark.parametrize("size", [16, 24, 40])
def test_row_strides_may_be_padded_or_negative(size):
    image = MAKER["frame"](60, 80)
    for view in (image[10:50, 20:44], image[::-1], image[::3], image[5:6, :], np.broadcast_to(image[:1], (9, 80, 3))):
        np.testing.assert_array_equal(
            twin.preprocess([view], size), twin.preprocess([np.ascontiguousarray(view)], size)
        )


@pytest.mark.parametrize(
    ("frames", "size", "message"),
    [
        ([(64, 0, 8, 24)], 8, "0 x 8 has no pixel"),
        ([(64, 8, 2**20 + 1, 24)], 8, "a side of a frame is 1048577"),
        ([(0, 8, 8, 24)], 8, "a frame is a null address"),
        ([(64, 8, 8, 24)], 0, "an image size of 0"),
        ([(64, 2**20, 2**20, 3 * 2**20)], 32, "too large to be resized to 32"),
    ],
)
def test_invalid_arguments_are_refused(frames, size, message):
    with pytest.raises(ValueError, match=message):
        _grid.preprocess(frames, size, 64, "float32")
