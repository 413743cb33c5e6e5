"""Robustness: the grids repeat exactly, and the figures are those of the perturbed copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="metrics are scikit-learn's (extra train)")
from runs import texture, write_images

from leakrt.core.errors import DataError
from leakrt.core.images import find_images
from leakrt.core.spec import ModelSpec
from leakrt.core.verdict import Verdict
from leakrt.train.perturbations import GRIDS, perturbed
from leakrt.train.robustness import measure_grid, worst_false_alarms

SPEC = ModelSpec(class_names=("gan", "real"), real_class="real", image_size=32)
FLAT = {"as stored": lambda x, draw: x, "black": lambda x, draw: np.zeros_like(x)}


def by_brightness(frames):
    """A detector that calls bright pictures real."""
    for frame in frames:
        bright = float(frame.mean()) > 100
        scores = {"gan": 0.9 - 0.8 * bright, "real": 0.1 + 0.8 * bright}
        kind, label = ("real", "real") if bright else ("generator", "gan")
        yield Verdict("", kind, label, 0.9, -1.0, scores, {}, "", (), "torch", "fp32", "")


@pytest.fixture
def paths(tmp_path):
    write_images(tmp_path / "real", "real", 4)
    write_images(tmp_path / "gan", "smooth", 3, first_seed=50)
    return find_images(tmp_path)


@pytest.mark.parametrize("grid", GRIDS)
def test_every_copy_repeats_and_differs_from_the_image(grid):
    image = texture("real", 3, size=70)
    copies = {name: perturbed(name, perturb, image) for name, perturb in GRIDS[grid].items()}
    again = {name: perturbed(name, perturb, image) for name, perturb in GRIDS[grid].items()}
    assert np.array_equal(copies.pop("as stored"), image)
    assert len(copies) >= (14 if grid == "robustness" else 8)
    for name, copy in copies.items():
        assert np.array_equal(copy, again[name])
        assert copy.dtype == np.uint8
        assert copy.shape != image.shape or not np.array_equal(copy, image)


def test_noise_differs_from_image_to_image():
    first, second = (texture("real", seed, size=60).astype(int) for seed in (1, 2))
    perturb = GRIDS["robustness"]["noise 5"]
    added = [perturbed("noise 5", perturb, x.astype(np.uint8)).astype(int) - x for x in (first, second)]
    assert not np.array_equal(added[0], added[1])


def test_cells_count_alarms_and_misses_of_the_copies(paths):
    labels = [path.parent.name for path in paths]
    stored, black = measure_grid(by_brightness, paths, labels, grid=FLAT, spec=SPEC)
    assert (stored.false_alarms, stored.real_faces, stored.called_real) == (0, 4, 1.0)
    assert (black.false_alarms, black.false_alarm_rate, black.not_noticed) == (4, 1.0, 0.0)
    assert worst_false_alarms([stored, black]) is black


def test_unreadable_images_are_left_out_of_every_cell(paths, tmp_path):
    bad = tmp_path / "gan" / "bad.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    every = [*paths, bad]
    cells = measure_grid(by_brightness, every, [path.parent.name for path in every], grid=FLAT, spec=SPEC)
    assert [cell.images for cell in cells] == [7, 7]
    with pytest.raises(DataError, match="none of the images can be read"):
        measure_grid(by_brightness, [Path(bad)], ["gan"], grid=FLAT, spec=SPEC)


def test_without_real_faces_false_alarms_are_not_measured(paths):
    generated = [path for path in paths if path.parent.name == "gan"]
    (cell, _) = measure_grid(by_brightness, generated, ["gan"] * 3, grid=FLAT, spec=SPEC)
    assert cell.false_alarm_rate is cell.false_alarm_interval is cell.macro_auc is None
    assert worst_false_alarms([cell]) is None
