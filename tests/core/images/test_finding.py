"""Finding image files in folders."""

from __future__ import annotations

import pytest

from leakrt.core.errors import DataError
from leakrt.core.images import find_images


def test_images_are_found_recursively_in_a_fixed_order_whatever_the_case_of_their_suffix(tmp_path):
    names = ["b.JPG", "a/z.png", "a/b/c.TiFf", "a.jpeg", "a/note.txt", ".hidden.png", ".thumbs/x.png", "c.webp"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/b/c.TiFf", "a/z.png", "a.jpeg", "b.JPG", "c.webp"]


def test_a_file_is_found_whatever_its_suffix(tmp_path):
    (tmp_path / "photo").touch()
    assert find_images(tmp_path / "photo") == [tmp_path / "photo"]


def test_a_link_to_a_folder_above_does_not_loop(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert find_images(tmp_path) == [tmp_path / "a" / "x.png"]


def test_no_folder_and_no_images_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"^no such file or folder: .*none$"):
        find_images(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no images \(.*\.png"):
        find_images(tmp_path)
