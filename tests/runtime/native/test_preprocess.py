"""Native preprocessing compared with torchvision's golden tensors and core.preprocess."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leakrt import _core
from leakrt.core.preprocess import preprocess_reference

GOLDEN = Path(__file__).parents[2] / "golden"
MAKER = runpy.run_path(str(GOLDEN / "make_preprocess.py"))
TOLERANCE = 0.1 / 127.5


def preprocess(frame, size, threads=1):
    out = np.full((3, size, size), np.nan, dtype=np.float32)
    _core.preprocess(frame, out, threads)
    return out


@pytest.mark.parametrize(("height", "width", "size"), MAKER["CASES"])
def test_it_agrees_with_torchvision(height, width, size):
    step = MAKER["STRIDE"][size]
    with np.load(GOLDEN / "preprocess.npz", allow_pickle=False) as golden:
        expected = golden[f"{height}x{width}_{size}"]
    image = preprocess(MAKER["frame"](height, width), size)[:, ::step, ::step]
    assert np.abs(image - expected).max() <= TOLERANCE


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 90), width=st.integers(1, 90), size=st.integers(1, 70), key=st.integers(0, 2**32 - 1))
def test_it_agrees_with_the_reference_on_any_size(height, width, size, key):
    frame = np.random.default_rng(key).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert np.abs(preprocess(frame, size) - preprocess_reference(frame, size)).max() <= 2e-6


@pytest.mark.parametrize("width", [16, 300])
def test_a_frame_of_the_output_size_is_converted_exactly(width):
    frame = np.arange(width * width * 3, dtype=np.uint32).astype(np.uint8).reshape(width, width, 3)
    expected = frame[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / np.float32(127.5) - np.float32(1)
    np.testing.assert_array_equal(preprocess(frame, width), expected)


@pytest.mark.parametrize("shape", [(21, 12), (55, 33), (301, 457), (1080, 1920), (64, 99)])
@pytest.mark.parametrize("threads", [0, 2, 3, 16])
def test_results_do_not_depend_on_threads(shape, threads):
    frame = MAKER["frame"](*shape)
    np.testing.assert_array_equal(preprocess(frame, 64, threads), preprocess(frame, 64, 1))


@pytest.mark.parametrize("size", [16, 24, 40])
def test_row_strides_may_be_padded_or_negative(size):
    image = MAKER["frame"](60, 80)
    for view in (image[10:50, 20:44], image[::-1], image[::3], image[5:6, :], np.broadcast_to(image[:1], (9, 80, 3))):
        np.testing.assert_array_equal(preprocess(view, size), preprocess(np.ascontiguousarray(view), size))


def test_a_read_only_frame_is_read():
    frame = MAKER["frame"](30, 40)
    frame.flags.writeable = False
    assert np.isfinite(preprocess(frame, 32)).all()


@pytest.mark.parametrize("shape", [(1, 4000), (4000, 1), (2, 3), (1, 1)])
def test_extreme_shapes_agree_with_the_reference(shape):
    frame = MAKER["frame"](*shape)
    assert np.abs(preprocess(frame, 32) - preprocess_reference(frame, 32)).max() <= 2e-6


def test_a_sliver_resized_to_millions_of_columns_takes_little_memory():
    # 1 x 20,000 resized to 256 x 5,120,000, of which only the crop is computed.
    assert np.isfinite(preprocess(np.full((1, 20_000, 3), 200, np.uint8), 256)).all()
