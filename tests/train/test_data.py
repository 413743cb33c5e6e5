"""Listing, hashing and checking the images of a data folder."""

from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from runs import write_images

from leakrt.core.errors import DataError
from leakrt.core.progress import silent
from leakrt.train.contents import Content, ContentCache
from leakrt.train.data import hash_image, list_data, load_data

COUNTS = {"train": 4, "val": 2, "test": 3}


@pytest.fixture
def data(tmp_path):
    for start, (split, count) in enumerate(COUNTS.items()):
        for k, name in enumerate(("real", "blocky")):
            write_images(tmp_path / "data" / split / name, name, count, first_seed=100 * start + 1000 * k)
    return tmp_path / "data"


@pytest.fixture
def load(tmp_path):
    def load(root, skip_bad=False, progress=silent):
        return load_data(list_data(root), ContentCache(tmp_path / "cache"), 2, skip_bad=skip_bad, progress=progress)

    return load


def test_every_image_is_hashed_labelled_and_counted(data, load):
    found = load(data)
    assert found.classes == ("blocky", "real")
    assert found.counts() == {split: {"blocky": n, "real": n} for split, n in COUNTS.items()}
    assert len(found.hashes) == len(found.items) == 18
    for item, digest in zip(found.items, found.hashes, strict=True):
        assert digest == hashlib.sha256(item.path.read_bytes()).hexdigest()
        assert item.path.parent.name == found.classes[item.class_index]
        assert item.path.parent.parent.name == item.split
    assert found.labels("val").tolist() == [0, 0, 1, 1]
    assert [found.items[i].split for i in found.indices("val")] == ["val"] * 4
    assert found.notes == ()


def test_the_fingerprint_depends_only_on_content_name_and_split(data, tmp_path, load):
    before = load(data).fingerprint
    moved = shutil.copytree(data, tmp_path / "elsewhere")
    assert load(moved).fingerprint == before
    image = moved / "train/real/000.png"
    image.rename(image.with_name("900.png"))
    assert load(moved).fingerprint != before
    image.with_name("900.png").rename(moved / "val/real/000b.png")
    assert load(moved).fingerprint != before
    again = shutil.copytree(data, tmp_path / "again")
    shutil.copy(again / "train/real/001.png", again / "train/real/000.png")
    assert load(again).fingerprint != before


def test_progress_counts_every_image(data, load):
    calls = []
    load(data, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("reading images", 18, 18)
    assert [done for _, done, _ in calls] == list(range(1, 19))


def damage(data, count):
    names = [data / "train/real/000.png", data / "train/blocky/001.png", data / "test/real/002.png"]
    names += [data / f"train/real/bad{i:02d}.jpg" for i in range(count - 3)]
    for path in names:
        path.write_bytes(b"\xff\xd8 not a picture")
    return names


def test_images_that_can_not_be_read_are_all_named_before_anything_is_trained(data, load):
    names = damage(data, 3)
    with pytest.raises(DataError, match=r"3 of 18 images can't be read") as error:
        load(data)
    assert all(str(name) in str(error.value) for name in names)
    assert "--skip-bad" in str(error.value)
    assert "\n" not in str(error.value)


def test_of_many_unreadable_images_ten_are_named_and_the_rest_counted(data, load):
    damage(data, 14)
    with pytest.raises(DataError, match="; and 4 more;") as error:
        load(data)
    assert sum(part.startswith(str(data)) for part in str(error.value).split(": ")) <= 11


def test_unreadable_images_can_be_left_out(data, load):
    names = damage(data, 3)
    found = load(data, skip_bad=True)
    assert len(found.items) == 15
    assert not {item.path for item in found.items} & set(names)
    assert "3 of 18 images can't be read" in found.notes[0]


def test_a_class_without_a_readable_image_is_an_error_even_when_bad_ones_are_left_out(data, load):
    for path in (data / "val/real").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="class real has no image in val"):
        load(data, skip_bad=True)


def test_an_image_whose_content_is_known_is_not_decoded_again(data, tmp_path):
    cache = ContentCache(tmp_path / "cache")
    load_data(list_data(data), cache, 2, skip_bad=False, progress=silent)
    path = data / "train/real/000.png"
    path.write_bytes(b"not a picture, but once it was")
    cache.add({hash_image(path): Content("0" * 64, "")})
    found = load_data(list_data(data), ContentCache(tmp_path / "cache"), 2, skip_bad=False, progress=silent)
    assert len(found.items) == 18
    assert Content("0" * 64, "") in found.contents


def save_again(source, target, **options):
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.open(source).save(target, **options)


def test_a_picture_of_train_is_left_out_of_val_and_test_in_any_format(data, load):
    save_again(data / "train/real/000.png", data / "test/real/copy.bmp")
    save_again(data / "train/real/001.png", data / "val/real/copy.tif")
    save_again(data / "val/blocky/000.png", data / "test/blocky/copy.png", compress_level=1)
    found = load(data)
    assert len(found.items) == 18
    assert [(one.path.name, one.reason) for one in found.left_out] == [
        ("copy.png", "of test, also in val"),
        ("copy.bmp", "of test, also in train"),
        ("copy.tif", "of val, also in train"),
    ]
    for split, earlier in (("test", "val"), ("test", "train"), ("val", "train")):
        assert any(
            f"left out of {split}: 1 of its images, whose pixels are also in {earlier}" in n for n in found.notes
        )


def test_one_picture_under_two_labels_is_refused_with_both_files(data, load):
    save_again(data / "train/real/000.png", data / "train/blocky/copy.bmp")
    with pytest.raises(DataError, match=r"copy.bmp of class blocky and .*real/000.png of class real are the same") as e:
        load(data)
    assert "\n" not in str(e.value)


def test_a_picture_that_looks_the_same_in_another_split_is_noted_and_kept(data, load):
    for start, (split, count) in enumerate(COUNTS.items()):
        write_images(data / split / "smooth", "smooth", count, first_seed=3000 + 100 * start)
    save_again(data / "train/smooth/000.png", data / "test/smooth/again.jpg", quality=90)
    save_again(data / "train/smooth/000.png", data / "train/smooth/again.jpg", quality=80)  # allowed within a split
    found = load(data)
    (note,) = found.notes
    assert note.startswith("1 images of test look the same as images of train")
    assert len(found.items) == 20 + 9


def test_files_that_are_not_images_are_listed_and_noted(data, load):
    (data / "train/real/notes.txt").touch()
    found = load(data)
    assert found.notes == ("left out 1 file: 1 not an image (notes.txt)",)
    assert [one.path.name for one in found.left_out] == ["notes.txt"]


def test_data_without_val_is_refused(data):
    shutil.rmtree(data / "val")
    with pytest.raises(DataError, match="has train and test but no val"):
        list_data(data)


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (("train/blocky", "val/blocky", "test/blocky"), "only one class"),
        (("train/real", "val/real"), "class real has images in test only"),
        (("val/real",), "class real has no image in val"),
    ],
)
def test_classes_that_can_not_be_trained_on_are_refused_in_one_line(data, remove, message):
    for folder in remove:
        shutil.rmtree(data / folder)
    with pytest.raises(DataError, match=message) as error:
        list_data(data)
    assert "\n" not in str(error.value)


def test_a_class_may_be_missing_in_test(data, load):
    shutil.rmtree(data / "test/real")
    assert load(data).counts()["test"] == {"blocky": 3, "real": 0}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_without_waiting(data, load):
    os.mkfifo(data / "train/real/pipe.png")
    with pytest.raises(DataError, match="not a regular file"):
        load(data)


def test_names_that_are_not_valid_text_are_hashed(data, load):
    source = data / "train/real/000.png"
    odd = os.fsencode(data / "train/real") + b"/\xff\xfe.png"
    try:
        shutil.copy(source, odd)
    except OSError:
        pytest.skip("this file system takes only text as a name")
    assert len(load(data).items) == 19


def test_indices_can_index_numpy_arrays(data, load):
    found = load(data)
    assert np.asarray(found.hashes)[found.indices("test")].shape == (6,)


def test_conversions_of_the_reader_are_counted_and_cached(data, load):
    for name in ("000", "001"):
        path = data / "train/real" / f"{name}.png"
        picture = Image.open(path).convert("RGB")
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.save(path)
    expected = f"2 images, such as {data / 'train/real/000.png'}: its transparent parts were composited on white"
    assert expected in load(data).notes
    assert expected in load(data).notes  # from the cache


def test_more_folders_add_images_to_the_same_classes(data, tmp_path):
    write_images(tmp_path / "more" / "train" / "real", "real", 3, first_seed=900)
    one, both = list_data(data), list_data(data, more=[tmp_path / "more"])
    assert both.classes == one.classes
    added = {item.path for item in both.items} - {item.path for item in one.items}
    assert added == set((tmp_path / "more" / "train" / "real").iterdir())
    assert {item.split for item in both.items if item.path in added} == {"train"}


def test_a_class_that_only_the_second_folder_has_is_refused(data, tmp_path):
    write_images(tmp_path / "more" / "train" / "rael", "real", 1)
    with pytest.raises(DataError, match=r"more has the class rael, which .* lacks; it has .*Rename the folder"):
        list_data(data, more=[tmp_path / "more"])
