"""The quickstart's data set, in the layout of training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
from PIL import Image

from leakrt.core.errors import StorageError
from leakrt.core.images import decode_image, find_images
from leakrt.demo.dataset import SyntheticPlan, make_data_set, take_photographs
from leakrt.demo.decoders import SEEN, UNSEEN
from leakrt.train.layout import read_layout

PLAN = SyntheticPlan(size=64, train=8, val=3, test=3, generator_steps=4, seed=5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    make_data_set(root, PLAN)
    return root


def test_the_data_set_has_the_layout_of_training(folder):
    found = read_layout(folder / "data").images
    counts = {(a.class_name, a.split) for a in found}
    assert counts == {(name, split) for name in ("real", *SEEN) for split in ("train", "val", "test")}
    assert len(found) == 4 * PLAN.scenes == 4 * 14
    assert len(find_images(folder / "open" / UNSEEN)) == PLAN.test


def test_a_scene_and_all_that_is_made_from_it_lie_in_one_split(folder):
    """Copies resemble their photograph more than any photograph of another split."""

    def pictures(split, name):
        return [
            decode_image(p.read_bytes(), "x").pixels[::8, ::8].astype(float).ravel()
            for p in find_images(folder / "data" / split / name)
        ]

    reals = {split: pictures(split, "real") for split in ("train", "val", "test")}
    everything = np.array([p for split in reals.values() for p in split])
    assert len(np.unique(everything, axis=0)) == PLAN.scenes  # no scene is in two splits


def test_a_picture_and_its_copies_pass_one_jpeg_setting(folder):
    def tables(path):
        with Image.open(path) as image:
            return image.quantization, image.layer

    for split in ("train", "test"):
        for real in find_images(folder / "data" / split / "real"):
            for name in SEEN:
                assert tables(folder / "data" / split / name / real.name) == tables(real)
    reals = find_images(folder / "data" / "test" / "real")
    for real, unseen in zip(reals, find_images(folder / "open" / UNSEEN), strict=True):
        assert tables(real) == tables(unseen)


def test_photographs_follow_the_seed_alone_and_scenes_differ():
    first, settings = take_photographs(PLAN)
    again, same = take_photographs(replace(PLAN, generator_steps=9))
    other, _ = take_photographs(replace(PLAN, seed=6))
    assert first.shape == (PLAN.scenes, 64, 64, 3)
    assert np.array_equal(first, again)
    assert settings == same
    assert len({p.tobytes() for p in (*first, *other)}) == 2 * PLAN.scenes
    assert first.std() > 20


def test_progress_counts_the_photographs():
    calls = []
    take_photographs(PLAN, progress=lambda *call: calls.append(call))
    assert calls == [("taking photographs", n, PLAN.scenes) for n in range(1, PLAN.scenes + 1)]


def test_a_place_that_can_not_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StorageError, match="can't write"):
        make_data_set(tmp_path, SyntheticPlan(size=64, train=2, val=1, test=1, generator_steps=1))
