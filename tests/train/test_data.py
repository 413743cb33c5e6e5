"""Listing, hashing and proving readable the images of a data folder."""

from __future__ import annotations

import hashlib
import os
import shutil

import numpy as np
import pytest
from runs import write_images

from leakrt.core.errors import DataError
from leakrt.core.progress import silent
from leakrt.train.data import hash_image, list_data, load_data

COUNTS = {"train": 4, "val": 2, "test": 3}


@pytest.fixture
def data(tmp_path):
    for start, (split, count) in enumerate(COUNTS.items()):
        for k, name in enumerate(("real", "blocky")):
            write_images(tmp_path / "data" / split / name, name, count, 100 * start + 1000 * k)
    return tmp_path / "data"


def load(root, known=lambda digest: False, skip_bad=False, progress=silent):
    return load_data(list_data(root), known, 2, skip_bad, progress)


def test_every_image_is_hashed_labelled_and_counted(data):
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


def test_the_fingerprint_moves_with_content_name_and_split_and_with_nothing_else(data, tmp_path):
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


def test_progress_counts_every_image(data):
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


def test_images_that_can_not_be_read_are_all_named_before_anything_is_trained(data):
    names = damage(data, 3)
    with pytest.raises(DataError, match=r"3 of 18 images can't be read") as error:
        load(data)
    assert all(str(name) in str(error.value) for name in names)
    assert "--skip-bad" in str(error.value)
    assert "\n" not in str(error.value)


def test_of_many_unreadable_images_ten_are_named_and_the_rest_counted(data):
    damage(data, 14)
    with pytest.raises(DataError, match="; and 4 more;") as error:
        load(data)
    assert sum(part.startswith(str(data)) for part in str(error.value).split(": ")) <= 11


def test_unreadable_images_can_be_left_out(data):
    names = damage(data, 3)
    found = load(data, skip_bad=True)
    assert len(found.items) == 15
    assert not {item.path for item in found.items} & set(names)
    assert "3 of 18 images can't be read" in found.notes[0]


def test_a_class_without_a_readable_image_is_an_error_even_when_bad_ones_are_left_out(data):
    for path in (data / "val/real").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="class real has no image in val"):
        load(data, skip_bad=True)


def test_an_image_whose_latents_are_known_is_not_decoded_again(data):
    good = load(data)
    path = data / "train/real/000.png"
    path.write_bytes(b"not a picture, but once it was")
    known = {*good.hashes, hash_image(path)}
    assert len(load(data, known=known.__contains__).items) == 18


def test_the_same_bytes_in_train_and_test_are_told(data):
    shutil.copy(data / "train/real/000.png", data / "test/real/copy.png")
    assert any("1 images of test are in train too" in note for note in load(data).notes)


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        (("train/blocky", "val/blocky", "test/blocky"), "one class only"),
        (("train/real", "val/real"), "class real is in test only"),
        (("val/real",), "class real has no image in val"),
    ],
)
def test_classes_that_can_not_be_trained_on_are_refused_in_one_line(data, remove, message):
    for folder in remove:
        shutil.rmtree(data / folder)
    with pytest.raises(DataError, match=message) as error:
        list_data(data)
    assert "\n" not in str(error.value)


def test_a_class_may_be_missing_in_test(data):
    shutil.rmtree(data / "test/real")
    assert load(data).counts()["test"] == {"blocky": 3, "real": 0}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_not_waited_on(data):
    os.mkfifo(data / "train/real/pipe.png")
    with pytest.raises(DataError, match="not a regular file"):
        load(data)


def test_names_that_are_no_text_are_hashed_all_the_same(data):
    source = data / "train/real/000.png"
    odd = os.fsencode(data / "train/real") + b"/\xff\xfe.png"
    try:
        shutil.copy(source, odd)
    except OSError:
        pytest.skip("this file system takes only text as a name")
    assert len(load(data).items) == 19


def test_indices_are_numbers_numpy_can_index_with(data):
    found = load(data)
    assert np.asarray(found.hashes)[found.indices("test")].shape == (6,)
