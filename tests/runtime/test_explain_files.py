"""Explanation pictures written for verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt import Detector
from leakrt.core.errors import StorageError, UsageError
from leakrt.core.images import find_images, read_image
from leakrt.runtime.explain_files import explain_stream


@pytest.fixture(scope="module")
def detector(tiny):
    return Detector.load(tiny)


def test_a_folder_gets_one_picture_per_readable_image(detector, image_folder, tmp_path):
    folder = image_folder(3)
    (folder / "0001.png").write_bytes(b"")
    paths = find_images(folder)
    verdicts = list(explain_stream(detector, paths, tmp_path / "out" / "deep"))
    assert [v.scores for v in verdicts] == [v.scores for v in detector.check_stream(paths)]
    written = sorted((tmp_path / "out" / "deep").iterdir())
    assert [file.name for file in written] == ["00000-0000.png", "00002-0002.png"]
    assert read_image(written[0]).pixels.shape == (860, 1240, 3)


def test_the_output_for_one_image_can_be_a_file(detector, image_folder, tmp_path):
    list(explain_stream(detector, find_images(image_folder(1)), tmp_path / "why.PNG"))
    assert np.any(read_image(tmp_path / "why.PNG").pixels != 255)


def test_one_file_for_several_images_raises_a_usage_error(detector, image_folder, tmp_path):
    with pytest.raises(UsageError, match="is a single PNG file, but there are 2 images; name a folder"):
        explain_stream(detector, find_images(image_folder(2)), tmp_path / "x.png")


def test_an_unwritable_output_raises_before_anything_runs(detector, image_folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="can't write"):
        explain_stream(detector, find_images(image_folder(1)), tmp_path / "file" / "out")


def test_a_picture_never_overwrites_an_input_image(detector, image_folder):
    (image,) = find_images(image_folder(1))
    png = image.with_suffix(".png")
    image.rename(png)
    before = png.read_bytes()
    with pytest.raises(UsageError, match="would overwrite the image"):
        explain_stream(detector, [png], png)
    named = png.rename(png.with_name("00000-x.png"))
    with pytest.raises(UsageError, match="would overwrite the image"):
        explain_stream(detector, [named.with_name("x.jpg"), named], named.parent)
    assert named.read_bytes() == before
