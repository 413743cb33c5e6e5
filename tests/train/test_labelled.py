"""Selection of evaluation images."""

from __future__ import annotations

import pytest
from runs import CLASSES, COUNTS, train_run, write_data

from leakrt.core.errors import DataError, UsageError
from leakrt.train.labelled import labelled_images, open_images
from leakrt.train.run import Run


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_holds_its_own_images_with_their_classes(data, split):
    images = labelled_images(data, split)
    assert len(images.paths) == 3 * COUNTS[split]
    assert all(path.parts[-3:-1] == (split, name) for path, name in zip(images.paths, images.labels, strict=True))


def test_all_takes_a_folder_of_classes(data):
    images = labelled_images(data / "val", "all")
    assert len(images.paths) == 3 * COUNTS["val"]
    assert set(images.labels) == set(CLASSES)


@pytest.mark.parametrize("seed", [0, 3])
def test_data_without_splits_has_the_same_test_images_for_every_seed(data, tmp_path, seed):
    run = Run.open(train_run(tmp_path, data / "val", seed=seed, epochs=1))
    for split in ("train", "val", "test"):
        assert {item.path for item in run.of(split)} == {str(p) for p in labelled_images(data / "val", split).paths}


def test_missing_data_is_reported(data, tmp_path):
    with pytest.raises(UsageError, match="no split 'tests'"):
        labelled_images(data, "tests")
    with pytest.raises(DataError, match="no such folder"):
        labelled_images(tmp_path / "nowhere", "all")
    with pytest.raises(DataError, match="no such file or folder"):
        open_images(tmp_path / "nowhere")
    (data / "test").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="no images in test"):
        labelled_images(data, "test")


def test_open_images_may_be_in_folders_of_their_makers(data):
    assert len(open_images(data / "test").paths) == 3 * COUNTS["test"]
    assert open_images(None).paths == ()


def test_open_folders_named_as_a_known_class_or_as_a_label_are_refused(data, tmp_path):
    with pytest.raises(DataError, match=r"smooth has the name of a known class"):
        open_images(data / "test", known=("Smooth", "other"))
    with pytest.raises(DataError, match=r"smooth has the name of a known class"):
        open_images(data / "test" / "smooth", known=("smooth", "other"))
    (data / "test" / "real").rename(data / "test" / "0_real")
    with pytest.raises(DataError, match=r"0_real has the name of a label"):
        open_images(data / "test", known=("sd21",))


def test_a_single_class_or_only_a_test_split_can_be_listed(data, tmp_path):
    (tmp_path / "alone").mkdir()
    (data / "test").rename(tmp_path / "alone" / "test")
    images = labelled_images(tmp_path / "alone", "test")
    assert len(images.paths) == 3 * COUNTS["test"]
    (tmp_path / "alone" / "test").rename(tmp_path / "classes")
    for name in ("smooth", "blocky"):
        (tmp_path / "classes" / name).rename(tmp_path / name)
    (tmp_path / "classes" / "real" / "notes.txt").touch()
    images = labelled_images(tmp_path / "classes", "all")
    assert images.labels == ("real",) * COUNTS["test"]
    assert [one.path.name for one in images.left_out] == ["notes.txt"]


def test_all_of_a_folder_of_splits_is_refused(data):
    with pytest.raises(DataError, match="holds the splits test, train, val, not classes; choose one with --split"):
        labelled_images(data, "all")
