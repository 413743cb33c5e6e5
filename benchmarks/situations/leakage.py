"""Leakage: one picture under two labels, in two splits, or among those that a detector was trained on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from leakrt.core.errors import DataError
from leakrt.core.images import read_image
from leakrt.core.progress import silent
from leakrt.train.data import list_data, load_data
from leakrt.train.fingerprints import ALIKE, FingerprintCache, Identity, fingerprint, looks, nearest
from leakrt.train.leakage import TrainingRecord
from situations.row import Inputs, Row

_FORMATS = ("copy.png", "copy.bmp", "copy.tif", "copy.webp")
_QUALITIES = (30, 50, 70, 90)
_SIZES = (128, 200, 400)


def measure(inputs: Inputs) -> list[Row]:
    """Every situation of one picture in two places."""
    pictures = list(_pictures(inputs))
    return [
        _placed("one picture under two labels, in four formats", pictures, "train/fake", refused=True),
        _placed("one picture in train and in test, in four formats", pictures, "test/real", refused=True),
        _placed("one picture in train and in val, in four formats", pictures, "val/real", refused=True),
        _placed("a re-encoded picture in a later split", pictures, "test/real", refused=False),
        _recognised(pictures),
        *_false_alarms(inputs),
    ]


def _pictures(inputs: Inputs) -> Iterator[Image.Image]:
    if inputs.shared is None:
        for seed in range(24):
            small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
            yield Image.fromarray(small).resize((160, 160), Image.Resampling.BICUBIC)
        return
    for path in sorted((inputs.shared / "leakbench" / "test" / "real").glob("*.jpg"))[:24]:
        yield Image.open(path).convert("RGB")


def _placed(situation: str, pictures: list[Image.Image], where: str, *, refused: bool) -> Row:
    """A copy of a training picture put elsewhere: it has to be refused, or noted where it is only alike."""
    names = _FORMATS if refused else tuple(f"q{quality}.jpg" for quality in _QUALITIES)
    silent_faults = 0
    for turn, name in enumerate(names):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "data"
            _write(root, pictures)
            pictures[0].save(root / where / name, quality=_QUALITIES[turn], lossless=True)
            try:
                cache = FingerprintCache(root.parent)
                notes = load_data(list_data(root), lambda _: False, 2, False, silent, cache).notes
                silent_faults += refused or not any("look like" in note for note in notes)
            except DataError as error:
                silent_faults += not refused or name not in str(error)
    figure = "refused, both files named" if refused else "noted"
    return Row(situation=situation, tried=len(names), silent=silent_faults, figure=figure, target="0 silent")


def _write(root: Path, pictures: list[Image.Image]) -> None:
    """A third of the pictures in each split; the class fake holds them mirrored."""
    for split, begin in (("train", 0), ("val", 8), ("test", 16)):
        for label in ("real", "fake"):
            (root / split / label).mkdir(parents=True)
            for i, picture in enumerate(pictures[begin : begin + 8]):
                shown = picture if label == "real" else picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                shown.save(root / split / label / f"{i}.png")


def _recognised(pictures: list[Image.Image]) -> Row:
    """Copies of training pictures among those of `evaluate`: by a bundle's record, whatever their file."""
    record = TrainingRecord.of([fingerprint(_bgr(picture)) for picture in pictures[:12]])
    copies = [picture.resize((size, size), Image.Resampling.BICUBIC) for picture in pictures[:12] for size in _SIZES]
    shown = [_bgr(each) for each in (*pictures[:12], *copies, *pictures[12:])]
    found = record.seen([Identity(digest="", fingerprint=fingerprint(pixels)) for pixels in shown])
    same, alike = set(found.same), set(found.alike)
    missed = sum(i not in same for i in range(12)) + sum(i not in alike for i in range(12, 12 + len(copies)))
    wrong = len([i for i in same | alike if i >= 12 + len(copies)])
    return Row(
        situation="training pictures among those evaluated, as they are and resized",
        tried=len(shown),
        silent=missed,
        figure=f"{wrong} others taken for one",
        target="0 silent, 0 others",
        met=wrong == 0,
    )


def _false_alarms(inputs: Inputs) -> Iterator[Row]:
    """Different faces that look alike, over all pairs of classes that are not made of one another."""
    if inputs.shared is None:
        return
    folders = [inputs.shared / "leakbench" / s / c for s in ("val", "test") for c in ("real", "sd21", "stylegan2")]
    paths = [path for folder in folders for path in sorted(folder.glob("*.jpg"))[:: 5 if inputs.quick else 1]]
    found = looks(fingerprint(read_image(path).pixels) for path in paths)
    pairs, alike = len(paths) * (len(paths) - 1) // 2, 0
    for i in range(1, len(paths)):
        alike += int(nearest(found[i : i + 1], found[:i])[1][0]) <= ALIKE
    yield Row(
        situation="different faces taken for one, of all pairs",
        tried=pairs,
        figure=f"{alike}",
        target="0",
        met=alike == 0,
    )


def _bgr(picture: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.ascontiguousarray(np.asarray(picture)[:, :, ::-1])
