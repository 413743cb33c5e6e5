"""Preparing files, arrays and PIL images for the pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from leakrt import _core
from leakrt.core.errors import ImageError, UsageError
from leakrt.core.verdict import Face
from leakrt.runtime.faces import FaceCrop
from leakrt.runtime.prepare import NO_FACE, Preparer

FRAME = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


class Finder:
    """A face finder that returns predefined faces."""

    def __init__(self, *faces: FaceCrop) -> None:
        self.faces = list(faces)

    def find(self, image):
        return self.faces


class Wrapped:
    """A custom path type."""

    def __init__(self, path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def preprocessed(frame):
    image = np.empty((3, 40, 40), np.float32)
    _core.preprocess(frame, image)
    return image


def preparer(finder=None, max_pixels=10_000):
    return Preparer(preprocessed, finder, max_pixels)


def test_an_array_is_preprocessed_without_being_read():
    (prepared,) = preparer().prepare(FRAME)
    assert prepared.image.shape == (3, 40, 40)
    assert (prepared.path, prepared.error, prepared.face) == ("", None, None)
    assert set(prepared.latency_ms) == {"preprocess"}


def test_a_file_and_its_pixels_give_the_same_input(tmp_path):
    Image.fromarray(FRAME[:, :, ::-1]).save(tmp_path / "x.png")
    (from_file,) = preparer().prepare(tmp_path / "x.png")
    (from_array,) = preparer().prepare(FRAME)
    assert np.array_equal(from_file.image, from_array.image)
    assert from_file.path == str(tmp_path / "x.png")
    assert set(from_file.latency_ms) == {"decode", "preprocess"}


@pytest.mark.parametrize(
    "view",
    [FRAME[::-1], FRAME[:, ::-1], FRAME[::2], FRAME[5:45, 3:60], FRAME.transpose(1, 0, 2), np.asfortranarray(FRAME)],
)
def test_views_and_their_copies_give_the_same_input(view):
    (from_view,), (from_copy,) = preparer().prepare(view), preparer().prepare(view.copy(order="C"))
    assert np.array_equal(from_view.image, from_copy.image)


@pytest.mark.parametrize(
    "image",
    [None, b"x", FRAME.astype(np.float32), FRAME[:, :, 0], np.zeros((50, 50, 4), np.uint8), FRAME[:31], object()],
)
def test_an_invalid_image_raises_in_crops_and_becomes_an_error_in_prepare(image):
    with pytest.raises((ImageError, UsageError)) as raised:
        preparer().crops(image)
    (prepared,) = preparer().prepare(image)
    assert (prepared.path, prepared.image, prepared.error) == ("", None, str(raised.value))


@pytest.mark.parametrize("kind", [str, Path, Wrapped])
def test_any_kind_of_path_is_read(tmp_path, kind):
    Image.fromarray(FRAME).save(tmp_path / "x.png")
    (prepared,) = preparer().prepare(kind(tmp_path / "x.png"))
    assert (prepared.path, prepared.error) == (str(tmp_path / "x.png"), None)


def as_frame(frame):
    """`prepare` of a backend that preprocesses frames on its device."""
    return np.ascontiguousarray(frame)


@pytest.mark.parametrize("finder", [None, Finder(FaceCrop(Face(0, (0, 4, 70, 40)), FRAME[4:44]))])
def test_the_callers_pixels_are_copied_if_they_are_read_later(finder):
    frame = FRAME.copy()
    if finder is not None:
        finder = Finder(FaceCrop(Face(0, (0, 4, 70, 40)), frame[4:44]))
    taken = Preparer(as_frame, finder, 10_000)
    (prepared,) = taken.prepare(frame)
    (crop,) = taken.crops(frame)
    borrowed = taken.preprocess(crop, own=False)
    expected = prepared.image.copy()
    frame[:] = 0
    assert np.array_equal(prepared.image, expected)
    assert expected.any()
    assert not borrowed.image.any()


def test_pixels_of_a_file_are_not_copied_again(tmp_path):
    Image.fromarray(FRAME).save(tmp_path / "x.png")
    taken = Preparer(as_frame, None, 10_000)
    (crop,) = taken.crops(tmp_path / "x.png")
    assert taken.preprocess(crop, own=True).image is crop.pixels


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "RGBa"])
def test_a_pil_image_gives_the_pixels_of_its_file(tmp_path, mode):
    source = Image.fromarray(FRAME)
    image = source.convert("RGBA").convert(mode) if mode == "RGBa" else source.convert(mode.split(";")[0])
    if mode == "I;16":
        image = Image.fromarray(FRAME[:, :, 0].astype(np.uint16) << 8)
    (crop,) = preparer().crops(image)
    assert (crop.path, crop.pixels.shape, crop.pixels.dtype) == ("", (50, 70, 3), np.uint8)
    if mode in ("L", "LA", "P", "RGB", "RGBA", "1", "I;16"):
        image.save(tmp_path / "x.png")
        assert np.array_equal(crop.pixels, preparer().crops(tmp_path / "x.png")[0].pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_rotated_like_its_file(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(FRAME).save(tmp_path / "x.png", exif=exif)
    with Image.open(tmp_path / "x.png") as image:
        (crop,) = preparer().crops(image)
    assert np.array_equal(crop.pixels, preparer().crops(tmp_path / "x.png")[0].pixels)


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (Image.new("RGB", (31, 50)), "the image is 31 x 50; each side needs at least 32 pixels"),
        (Image.new("RGB", (200, 100)), "more than 0.01 megapixels: it is 200 x 100; shrink it or raise the limit"),
        (Image.new("F", (50, 50)), "32-bit pixels have no known range"),
    ],
)
def test_an_invalid_pil_image_raises(image, why):
    with pytest.raises(ImageError, match=why):
        preparer().crops(image)


def test_a_pil_image_whose_file_is_closed_or_truncated_raises(tmp_path):
    Image.fromarray(FRAME).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with Image.open(tmp_path / "x.png") as image, pytest.raises(ImageError, match="the image can't be decoded"):
        preparer().crops(image)
    with Image.open(tmp_path / "x.png") as closed:
        pass
    with pytest.raises(ImageError, match="the image can't be decoded"):
        preparer().crops(closed)


def test_an_unreadable_file_becomes_an_error(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    (prepared,) = preparer().prepare(tmp_path / "x.png")
    assert prepared.image is None
    assert prepared.error == f"{tmp_path / 'x.png'}: the file is empty"


def test_the_pixel_limit_reaches_the_reader(tmp_path):
    Image.fromarray(FRAME).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match="megapixels"):
        preparer(max_pixels=3499).crops(tmp_path / "x.png")


def test_every_face_is_prepared_with_its_box():
    faces = [FaceCrop(Face(i, (i, 2, 30, 40)), FRAME[:, i : i + 40]) for i in range(3)]
    prepared = preparer(Finder(*faces)).prepare(FRAME)
    assert [p.face for p in prepared] == [f.face for f in faces]
    assert not np.array_equal(prepared[0].image, prepared[2].image)
    assert set(prepared[0].latency_ms) == {"faces", "preprocess"}


def test_an_image_without_a_face_has_no_error_and_no_input():
    (prepared,) = preparer(Finder()).prepare(FRAME)
    assert (prepared.image, prepared.error, prepared.notes) == (None, None, (NO_FACE,))


def test_notes_of_the_reader_are_kept(tmp_path):
    frames = [Image.new("L", (40, 40), grey) for grey in (10, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    (prepared,) = preparer().prepare(tmp_path / "x.gif")
    assert prepared.notes == ("the file has several frames; only the first is used",)
