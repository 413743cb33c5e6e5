"""From a file or an array to what the VAE encoder takes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from leakrt import _core
from leakrt.core.errors import ImageError
from leakrt.core.verdict import Face
from leakrt.runtime.faces import FaceCrop
from leakrt.runtime.prepare import NO_FACE, Preparer

FRAME = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


class Finder:
    """Finds the faces it was given."""

    def __init__(self, *faces: FaceCrop) -> None:
        self.faces = list(faces)

    def find(self, image):
        return self.faces


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


def test_a_file_gives_the_same_as_its_pixels(tmp_path):
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
def test_views_give_the_same_as_their_copies(view):
    (from_view,), (from_copy,) = preparer().prepare(view), preparer().prepare(view.copy(order="C"))
    assert np.array_equal(from_view.image, from_copy.image)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (FRAME.astype(np.float32), r"not float32 \[50, 70, 3\]"),
        (FRAME[:, :, 0], r"not uint8 \[50, 70\]"),
        (np.zeros((50, 50, 4), np.uint8), r"not uint8 \[50, 50, 4\]"),
        (FRAME[:31], "the image is 70 x 31; each side needs at least 32 pixels"),
        (FRAME[:0], "the image is 70 x 0"),
    ],
)
def test_an_array_that_is_no_image_is_refused(frame, why):
    with pytest.raises(ImageError, match=why):
        preparer().crops(frame)


def test_an_unreadable_file_becomes_its_error(tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    (prepared,) = preparer().prepare(tmp_path / "x.png")
    assert prepared.image is None
    assert prepared.error == f"{tmp_path / 'x.png'}: the file is empty"


def test_the_pixel_limit_reaches_the_reader(tmp_path):
    Image.fromarray(FRAME).save(tmp_path / "x.png")
    with pytest.raises(ImageError, match="megapixels"):
        preparer(max_pixels=3499).crops(tmp_path / "x.png")


def test_every_face_is_prepared_with_its_place():
    faces = [FaceCrop(Face(i, (i, 2, 30, 40)), FRAME[:, i : i + 40]) for i in range(3)]
    prepared = preparer(Finder(*faces)).prepare(FRAME)
    assert [p.face for p in prepared] == [f.face for f in faces]
    assert not np.array_equal(prepared[0].image, prepared[2].image)
    assert set(prepared[0].latency_ms) == {"faces", "preprocess"}


def test_no_face_is_no_error_and_no_image():
    (prepared,) = preparer(Finder()).prepare(FRAME)
    assert (prepared.image, prepared.error, prepared.notes) == (None, None, (NO_FACE,))


def test_what_the_reader_noted_stays(tmp_path):
    frames = [Image.new("L", (40, 40), grey) for grey in (10, 200)]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    (prepared,) = preparer().prepare(tmp_path / "x.gif")
    assert prepared.notes == ("the file holds several frames; only the first was judged",)
