"""The preprocess reference: torchvision's golden tensors, shapes, and invariances."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

from leakrt.core.preprocess import crop_origin, preprocess_reference, resized_shape, seen

GOLDEN = Path(__file__).parents[1] / "golden"
MAKER = runpy.run_path(str(GOLDEN / "make_preprocess.py"))
TOLERANCE = 0.1 / 127.5


@pytest.mark.parametrize(("height", "width", "size"), MAKER["CASES"])
def test_the_reference_agrees_with_torchvision(height, width, size):
    step = MAKER["STRIDE"][size]
    with np.load(GOLDEN / "preprocess.npz", allow_pickle=False) as golden:
        expected = golden[f"{height}x{width}_{size}"]
    image = preprocess_reference(MAKER["frame"](height, width), size)[:, ::step, ::step]
    assert image.shape == expected.shape
    assert np.abs(image - expected).max() <= TOLERANCE


@pytest.mark.parametrize(
    ("shape", "resized"),
    [((480, 640), (256, 341)), ((640, 480), (341, 256)), ((256, 256), (256, 256)), ((1, 3), (256, 768))],
)
def test_the_long_side_is_rounded_down(shape, resized):
    assert resized_shape(*shape, 256) == resized


@pytest.mark.parametrize(("excess", "origin"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (7, 4)])
def test_half_a_pixel_of_crop_goes_to_the_even_side(excess, origin):
    assert crop_origin(256, 256 + excess, 256) == (0, origin)


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_a_flat_frame_stays_flat(value):
    frame = np.full((21, 12, 3), value, dtype=np.uint8)
    assert np.abs(preprocess_reference(frame, 40) - (value / 127.5 - 1)).max() < 1e-6


def test_bgr_becomes_rgb():
    frame = np.zeros((9, 9, 3), dtype=np.uint8)
    frame[..., 0] = 255
    assert preprocess_reference(frame, 9)[:, 4, 4].tolist() == [-1.0, -1.0, 1.0]


def test_a_mirrored_square_gives_the_mirrored_image():
    frame = MAKER["frame"](55, 55)
    image = preprocess_reference(frame, 32)
    np.testing.assert_allclose(preprocess_reference(frame[:, ::-1], 32), image[..., ::-1], atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 5), (5, 5, 4)])
def test_a_frame_without_pixels_or_of_another_shape_is_rejected(shape):
    with pytest.raises(ValueError, match="frame"):
        preprocess_reference(np.zeros(shape, dtype=np.uint8), 32)


@pytest.mark.parametrize("size", [1, 7, 32, 256])
def test_the_seen_region_covers_all_used_pixels_and_at_most_one_more(size):
    rng = np.random.default_rng(size)
    for _ in range(30):
        height, width = (int(n) for n in rng.integers(1, 300, 2))
        rows, columns = seen(height, width, size)
        lit = np.zeros((height, width, 3), np.uint8)
        lit[rows, columns] = 255
        assert preprocess_reference(lit, size).min() > 1 - 1e-6, "something black that lies outside shows"
        for edge in (rows.start + 1, rows.stop - 2):
            assert _shows(np.s_[edge], height, width, size) or rows.stop - rows.start < 4
        for edge in (columns.start + 1, columns.stop - 2):
            assert _shows(np.s_[:, edge], height, width, size) or columns.stop - columns.start < 4


def _shows(where, height: int, width: int, size: int) -> bool:
    frame = np.zeros((height, width, 3), np.uint8)
    frame[where] = 255
    return bool(preprocess_reference(frame, size).max() > -1)


def test_only_the_middle_of_a_wide_camera_frame_is_seen():
    rows, columns = seen(1080, 1920, 256)
    assert (rows.start, rows.stop) == (0, 1080)
    assert (columns.start, columns.stop) == (420, 1504)
