"""The small generators copy what they are shown, each with the lattice of its own way to enlarge."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

pytest.importorskip("torch")
from PIL import Image

from leakrt.core.images import find_images
from leakrt.demo.dataset import SyntheticPlan, take_photographs
from leakrt.demo.decoders import SEEN, UNSEEN, train_generators
from leakrt.demo.spectra import residual_spectrum

PLAN = SyntheticPlan(size=64, train=8, val=3, test=3, generator_steps=4, seed=5)


@pytest.fixture(scope="module")
def copies():
    photographs, _ = take_photographs(replace(PLAN, train=24))
    generators = train_generators(photographs, 60, 0, progress=lambda *call: None)
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
        train_generators(photographs, 3, seed, progress=lambda *call: None).generate("nearest", photographs[:2])
        for seed in (0, 0, 1)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
