"""The quickstart's pictures: the camera and the generators leave the traces they are said to leave."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

pytest.importorskip("torch")
import cv2
from PIL import Image

from leakrt.core.errors import StorageError
from leakrt.core.images import decode_image, find_images
from leakrt.train.layout import read_layout
from leakrt.train.spectra import residual_spectrum
from leakrt.train.synthetic import SyntheticPlan, make_data_set, take_photographs
from leakrt.train.synthetic_camera import (
    Compression,
    Exposure,
    draw_compression,
    draw_exposure,
    encode_jpeg,
    photograph,
)
from leakrt.train.synthetic_decoders import SEEN, UNSEEN, train_generators
from leakrt.train.synthetic_scenes import render_scene

PLAN = SyntheticPlan(64, 8, 3, 3, 4, seed=5)
PLAIN = Exposure(gain=1.0, balance=(1.5, 1.3), shot_noise=0.0, read_noise=0.0, blur=0.35, sharpening=0.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("synthetic")
    make_data_set(root, PLAN)
    return root


def test_the_data_set_is_laid_out_as_training_wants_it(folder):
    found = read_layout(folder / "data", 0)
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
    take_photographs(PLAN, lambda *call: calls.append(call))
    assert calls == [("taking photographs", n, PLAN.scenes) for n in range(1, PLAN.scenes + 1)]


@pytest.mark.parametrize("size", [64, 96, 128])
def test_a_scene_is_linear_light_within_its_range(size):
    scene = render_scene(np.random.default_rng(0), size)
    assert scene.shape == (size, size, 3)
    assert scene.dtype == np.float32
    assert 0 <= scene.min() < scene.max() <= 1


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_the_camera_gives_a_plain_colour_back(channel):
    """Red stays red: mosaic, balance and demosaic name the same pixels."""
    scene = np.full((64, 64, 3), 0.1, np.float32)
    scene[..., channel] = 0.5
    middle = photograph(scene, PLAIN, np.random.default_rng(0))[24:40, 24:40].reshape(-1, 3).astype(float)
    assert middle.mean(0).argmax() == channel
    assert middle.std(0).max() < 2.0
    assert middle.mean(0)[channel] > 2 * np.delete(middle.mean(0), channel).max()


def noise(shot_noise: float) -> np.ndarray:
    """What a plain grey scene shows besides its shading: float64 [48, 48] of green."""
    scene = np.full((64, 64, 3), 0.3, np.float32)
    green = photograph(scene, replace(PLAIN, shot_noise=shot_noise), np.random.default_rng(1))[..., 1].astype(float)
    return (green - cv2.GaussianBlur(green, (0, 0), 4))[8:-8, 8:-8]


def test_a_camera_leaves_noise_that_grows_with_its_sensitivity_and_a_mosaic():
    none, quiet, loud = noise(0.0), noise(2e-4), noise(16e-4)
    assert none.std() < 1.0 < quiet.std() < loud.std() / 2
    neighbours = np.corrcoef(loud[:, 1:].ravel(), loud[:, :-1].ravel())[0, 1]
    assert neighbours > 0.2  # demosaicing shares each pixel's noise with those beside it


def test_drawn_settings_lie_in_their_ranges():
    rng = np.random.default_rng(0)
    settings = [draw_compression(rng) for _ in range(200)]
    assert {s.quality for s in settings} == set(range(90, 98))
    assert {s.chroma_halved for s in settings} == {True, False}
    shots = [draw_exposure(rng) for _ in range(50)]
    assert len({shot.gain for shot in shots}) == 50


@pytest.mark.parametrize(("halved", "sampling"), [(True, (2, 2)), (False, (1, 1))])
def test_a_jpeg_has_the_chroma_it_was_told(halved, sampling):
    picture = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    image = Image.open(io.BytesIO(encode_jpeg(picture, Compression(95, halved))))
    assert image.layer[0][1:3] == sampling
    assert np.abs(np.asarray(image).astype(int) - picture).mean() < 60


@pytest.fixture(scope="module")
def copies():
    photographs, _ = take_photographs(replace(PLAN, train=24))
    generators = train_generators(photographs, 60, 0, lambda *call: None)
    return photographs, {name: generators.generate(name, photographs) for name in (*SEEN, UNSEEN)}


def test_generators_copy_what_they_are_shown(copies):
    photographs, made = copies
    spread = photographs.astype(float).std()
    for pictures in made.values():
        assert pictures.shape == photographs.shape
        assert pictures.dtype == np.uint8
        assert np.abs(pictures.astype(float) - photographs).mean() < 0.8 * spread
    assert len({pictures.tobytes() for pictures in made.values()}) == 4


def lattice(folder, pictures, period: int) -> float:
    """How far the mean residual spectrum stands out at the multiples of 1 / `period` over what lies around them."""
    folder.mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{i}.png")
    spectrum = residual_spectrum(find_images(folder))
    side = len(spectrum)
    places = [(side // 2 + side // period * k) % side for k in range(1, period)]
    peaks = []
    for y, x in product(places, places):
        around = np.take(np.take(spectrum, range(y - 2, y + 3), 0, mode="wrap"), range(x - 2, x + 3), 1, mode="wrap")
        peaks.append(spectrum[y, x] - np.median(around))
    return float(np.mean(peaks))  # in powers of ten


def test_generators_leave_the_lattice_of_their_enlargement_and_the_camera_leaves_none(copies, tmp_path):
    photographs, made = copies
    for period in (4, 8):
        assert abs(lattice(tmp_path / f"real{period}", photographs, period)) < 0.25
    for name in ("transposed", "pixelshuffle", UNSEEN):
        assert lattice(tmp_path / name, made[name], 4) > 0.5
    assert lattice(tmp_path / "patches", made[UNSEEN], 8) > 0.5


def test_the_same_seed_trains_the_same_generators():
    photographs, _ = take_photographs(PLAN)
    first, second, other = (
        train_generators(photographs, 3, seed, lambda *call: None).generate("nearest", photographs[:2])
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_place_that_can_not_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(StorageError, match="can't write"):
        make_data_set(tmp_path, SyntheticPlan(64, 2, 1, 1, 1))
