"""Finding image files in folders."""

from __future__ import annotations

import os

import pytest
from PIL import Image

from leakrt.core.errors import DataError
from leakrt.core.images import find_images, left_out_note, search_images


def test_images_are_found_recursively_in_a_fixed_order_with_suffixes_of_any_case(tmp_path):
    names = ["b.JPG", "a/z.png", "a/b/c.TiFf", "a.jpeg", "a/note.txt", ".hidden.png", ".thumbs/x.png", "c.webp"]
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a/b/c.TiFf", "a/z.png", "a.jpeg", "b.JPG", "c.webp"]


def test_a_file_is_found_with_any_suffix(tmp_path):
    (tmp_path / "photo").touch()
    assert find_images(tmp_path / "photo") == [tmp_path / "photo"]


def test_a_link_to_a_folder_above_does_not_loop(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").touch()
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert find_images(tmp_path) == [tmp_path / "a" / "x.png"]


def test_a_missing_folder_and_a_folder_without_images_are_different_errors(tmp_path):
    with pytest.raises(DataError, match=r"^no such file or folder: .*none$"):
        find_images(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no images \(JPEG, PNG, "):
        find_images(tmp_path)


def test_images_are_recognised_by_their_first_bytes(tmp_path):
    picture = Image.new("RGB", (40, 40), (9, 99, 200))
    for name, kind in (("face", "PNG"), ("scan.txt", "JPEG"), ("photo.photo", "TIFF"), ("b.dat", "BMP")):
        picture.save(tmp_path / name, kind)
    (tmp_path / "phone").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    (tmp_path / "notes.txt").write_text("BMW and other cars, at some length so that a header would fit")
    (tmp_path / "claims.jpg").write_text("no image, which its reader says")
    found = search_images(tmp_path)
    assert [path.name for path in found.images] == ["b.dat", "claims.jpg", "face", "phone", "photo.photo", "scan.txt"]
    assert [(one.path.name, one.reason) for one in found.left_out] == [("notes.txt", "not images")]


def test_left_out_files_are_counted_with_their_reasons_in_one_line(tmp_path):
    image = tmp_path / "images" / "a.png"
    image.parent.mkdir()
    Image.new("RGB", (40, 40)).save(image)
    junk = "@eaDir/t/a.png @eaDir/b.png __MACOSX/._a.png ._a.png .ipynb_checkpoints/a.png"
    for name in (*["Thumbs.db", "x.csv", "y.csv", "z.csv"], *junk.split()):
        (image.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (image.parent / name).touch()
    Image.new("RGB", (40, 40)).save(image.parent / "raw.NEF", "TIFF")
    (tmp_path / "elsewhere").mkdir()
    (image.parent / "linked").symlink_to(tmp_path / "elsewhere")
    found = search_images(image.parent)
    assert found.images == (image,)
    assert left_out_note(found.left_out) == (
        "left out 10 files: 1 hidden (._a.png), 1 in .ipynb_checkpoints, 2 in @eaDir, 4 not images (Thumbs.db, x.csv, "
        "y.csv, ...), 1 in __MACOSX, 1 linked folder (linked), 1 camera raw file (raw.NEF)"
    )
    assert left_out_note(()) == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_not_opened_and_broken_links_are_listed(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")  # listed for its suffix
    found = search_images(tmp_path)
    assert [path.name for path in found.images] == ["a.png", "gone.jpg"]
    assert [(one.path.name, one.reason) for one in found.left_out] == [
        ("gone", "unreadable"),
        ("pipe", "not regular files"),
    ]


def test_a_name_with_control_characters_is_escaped_in_the_note(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    (tmp_path / "x\n\x1b[2J.txt").touch()
    assert "\n" not in left_out_note(search_images(tmp_path).left_out)
