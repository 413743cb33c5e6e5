"""Faces of every size, turn and kind of frame: how many are found, what else is taken for one, what a frame costs.

Faces of leakbench-originals are scaled and laid on photographs that scikit-learn ships. The search at one scale is
YuNet as OpenCV's own example calls it: at most 960 pixels a side, score 0.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from timing import in_turn, ratios

from leakrt.core.images import find_images, read_image
from leakrt.runtime.face_search import Box, Frame, overlap, scaled, turn_back
from leakrt.runtime.faces import FaceCrop, FaceFinder

from .row import Inputs, Row

_SIZES = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1500, 2000)
_FRAMES = ((640, 480), (1280, 720), (1920, 1080), (4000, 3000))
_REQUIRED_FROM, _REQUIRED = 48, 0.98
_QUICK = 12  # every such original


@dataclass(frozen=True)
class _Portrait:
    """A picture and where its face is."""

    pixels: Frame
    box: Box

    def resized(self, factor: float) -> _Portrait:
        height, width = self.pixels.shape[:2]
        size = max(1, round(width * factor)), max(1, round(height * factor))
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        return _Portrait(_frame(cv2.resize(self.pixels, size, interpolation=how)), scaled(self.box, factor))

    def turned(self, quarters: int) -> _Portrait:
        """Turned clockwise."""
        pixels = np.ascontiguousarray(np.rot90(self.pixels, -quarters))
        height, width = pixels.shape[:2]
        return _Portrait(pixels, turn_back(self.box, quarters, width, height=height))


def measure(inputs: Inputs) -> list[Row]:
    """Every row; none without the faces or the model."""
    model = inputs.shared and inputs.shared / "models/face_detection_yunet_2023mar.onnx"
    if inputs.shared is None or model is None or not model.exists():
        return []
    finder = FaceFinder(model)
    one_scale = partial(_one_scale, cv2.FaceDetectorYN.create(str(model), "", (320, 320), 0.7, 0.3, 512))
    originals = _read(inputs.shared / "leakbench-originals", 1)
    rows = [_found_row("originals as they are", originals, finder, one_scale)]
    portraits = [_Portrait(i, _box(finder.find(i)[0])) for i in originals[:: _QUICK if inputs.quick else 1]]
    rows += [_size_row(size, portraits, finder, one_scale) for size in _SIZES]
    rows += _kind_rows(portraits, finder, one_scale)
    rows.append(_beside_row(portraits, finder))
    rows.append(_moved_row(inputs, originals, finder, one_scale))
    rows += [_nothing_row(name, images, finder, one_scale) for name, images in _without_faces(inputs.quick).items()]
    sizes = _FRAMES if inputs.quick else (*_FRAMES, (8000, 8000))
    rows += [_cost_row(size, portraits[0], finder, one_scale, inputs.quick) for size in sizes]
    return rows


def _found_row(name: str, images: list[Frame], finder: FaceFinder, one_scale: _Search) -> Row:
    found, before = sum(bool(finder.find(i)) for i in images), sum(bool(one_scale(i)) for i in images)
    figure = f"found {found}; at one scale {before}"
    return Row(situation=name, tried=len(images), figure=figure, target="all", met=found == len(images))


def _size_row(size: int, portraits: list[_Portrait], finder: FaceFinder, one_scale: _Search) -> Row:
    """A face counts only with the note of its turn; two of the originals are tilted by some 45 degrees."""
    shares, unsaid, before = [], 0, 0
    for quarters in range(4):
        found = 0
        for number, portrait in enumerate(portraits):
            laid = _laid(portrait, size, quarters, number)
            hits = [c for c in finder.find(laid.pixels) if overlap(_box(c), laid.box) >= 0.5]
            note = f"rotated by {90 * quarters} degrees" if quarters else ""
            right = [c for c in hits if note in "".join(c.notes) and bool(c.notes) == bool(note)]
            found += bool(right)
            unsaid += bool(hits) and not right
            before += not quarters and any(overlap(b, laid.box) >= 0.5 for b in one_scale(laid.pixels))
        shares.append(found / len(portraits))
    figure = " ".join(f"{100 * share:.1f}" for share in shares)
    return Row(
        situation=f"face of {size} px: upright, turned by 90, 180, 270",
        tried=4 * len(portraits),
        figure=f"{figure} %; upright at one scale {100 * before / len(portraits):.1f} %; other turn {unsaid}",
        target="" if size < _REQUIRED_FROM else f"at least {100 * _REQUIRED:.0f} %",
        met=None if size < _REQUIRED_FROM else min(shares) >= _REQUIRED,
    )


def _laid(portrait: _Portrait, size: int, quarters: int, number: int) -> _Portrait:
    """The portrait with a face of `size` pixels on a photograph, in a frame in which the face has room."""
    small = portrait.resized(size / max(portrait.box[2:])).turned(quarters)
    frames = [f for f in _FRAMES if min(f) >= size]
    width, height = frames[number % len(frames)]
    x, y, w, h = small.box
    random = np.random.default_rng(number)
    left = int(random.integers(0, max(1, round(width - w)))) - round(x)
    top = int(random.integers(0, max(1, round(height - h)))) - round(y)
    frame = _frame(cv2.resize(_photographs()[number % 2], (width, height)))
    _paste(frame, small.pixels, left, top)
    return _Portrait(frame, (x + left, y + top, w, h))


def _paste(frame: Frame, picture: Frame, left: int, top: int) -> None:
    x0, y0 = max(0, left), max(0, top)
    part = picture[y0 - top : frame.shape[0] - top, x0 - left : frame.shape[1] - left]
    frame[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]] = part


def _kind_rows(portraits: list[_Portrait], finder: FaceFinder, one_scale: _Search) -> Iterator[Row]:
    """What a kiosk sees: pictures that the face fills or leaves, and other light."""
    for name, change in _KINDS.items():
        images = [change(p) for p in portraits]
        found, before = sum(bool(finder.find(i)) for i in images), sum(bool(one_scale(i)) for i in images)
        share, old = 100 * found / len(images), 100 * before / len(images)
        yield Row(situation=name, tried=len(images), figure=f"{share:.1f} %; at one scale {old:.1f} %")


def _part(portrait: _Portrait, *, left: float = 0, top: float = 0, right: float = 0, bottom: float = 0) -> Frame:
    """The face's box, each side moved inwards by that share of the face."""
    x, y, w, h = portrait.box
    height, width = portrait.pixels.shape[:2]
    x0, y0 = max(0, round(x + left * w)), max(0, round(y + top * h))
    x1, y1 = min(width, round(x + w - right * w)), min(height, round(y + h - bottom * h))
    return np.ascontiguousarray(portrait.pixels[y0:y1, x0:x1])


def _light(portrait: _Portrait, *, gain: float = 1, lift: float = 0, noise: float = 0, grey: bool = False) -> Frame:
    pixels = portrait.pixels.astype(np.float32)
    if grey:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    pixels = pixels * gain + lift + np.random.default_rng(0).normal(0, noise, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)


def _tiny(portrait: _Portrait, side: int) -> Frame:
    whole = _part(portrait, left=-0.1, top=-0.1, right=-0.1, bottom=-0.1)
    return _frame(cv2.resize(whole, (side, side), interpolation=cv2.INTER_AREA))


_KINDS: dict[str, Callable[[_Portrait], Frame]] = {
    "frame is the face's box": _part,
    "cut off at the left, 25 % of the face": partial(_part, left=0.25, top=-0.3, bottom=-0.3, right=-0.3),
    "cut off at the top, 25 %": partial(_part, top=0.25, left=-0.3, bottom=-0.3, right=-0.3),
    "cut off at the bottom, 25 %": partial(_part, bottom=0.25, left=-0.3, top=-0.3, right=-0.3),
    "cut off at all edges, 15 % each": partial(_part, left=0.15, top=0.15, right=0.15, bottom=0.15),
    "grey": partial(_light, grey=True),
    "grey, dim and noisy (infrared)": partial(_light, grey=True, gain=0.4, lift=20, noise=12),
    "very dark (an eighth, noise 2)": partial(_light, gain=0.125, noise=2),
    "very bright (twice, plus 40)": partial(_light, gain=2, lift=40),
    "frame of 32 x 32": partial(_tiny, side=32),
    "frame of 48 x 48": partial(_tiny, side=48),
}


def _beside_row(portraits: list[_Portrait], finder: FaceFinder) -> Row:
    """A turned face beside an upright one: turned copies of the frame are not searched then."""
    sizes, shares = (64, 96, 128, 192, 256), []
    for size in sizes:
        hits = 0
        for number, portrait in enumerate(portraits):
            upright = _laid(portraits[number - 1].resized(1), 96, 0, 1).pixels
            frame = np.ascontiguousarray(np.concatenate([upright, upright[:, :720]], axis=1))
            small = portrait.resized(size / max(portrait.box[2:])).turned(1 + number % 3)
            _paste(frame, small.pixels, 1400 - round(small.box[0]), 200 - round(small.box[1]))
            box = (1400.0, 200.0, small.box[2], small.box[3])
            hits += any(c.notes and overlap(_box(c), box) >= 0.5 for c in finder.find(frame))
        shares.append(f"{100 * hits / len(portraits):.0f}")
    figure = f"found {', '.join(shares)} % at {', '.join(map(str, sizes))} px"
    return Row(situation="turned face beside an upright one", tried=len(sizes) * len(portraits), figure=figure)


def _moved_row(inputs: Inputs, originals: list[Frame], finder: FaceFinder, one_scale: _Search) -> Row:
    """How the crops of portraits differ from those of a search at one scale."""
    assert inputs.shared is not None
    images = originals + _read(inputs.shared / "leakbench/test", 20 if inputs.quick else 1)
    overlaps, turned, lost, won = [], 0, 0, 0
    for image in images:
        old, new = one_scale(image), finder.find(image)
        lost, won = lost + (bool(old) and not new), won + (bool(new) and not old)
        turned += bool(new) and bool(new[0].notes)
        if old and new and new[0].face.box != tuple(map(int, old[0])):
            overlaps.append(overlap(_box(new[0]), old[0]))
    middle = f", their overlap {median(overlaps):.2f} in the median" if overlaps else ""
    figure = f"other box {len(overlaps)}{middle}; called turned {turned}; found besides {won}; no more found {lost}"
    return Row(situation="largest face of portraits against one scale", tried=len(images), figure=figure)


def _nothing_row(name: str, images: list[Frame], finder: FaceFinder, one_scale: _Search) -> Row:
    new, old = sum(len(finder.find(i)) for i in images), sum(len(one_scale(i)) for i in images)
    figure = f"taken for faces {new}; at one scale {old}"
    return Row(situation=name, tried=len(images), figure=figure, target="no more", met=new <= old)


def _without_faces(quick: bool) -> dict[str, list[Frame]]:
    random, count = np.random.default_rng(1), 10 if quick else 100
    photographs = [_cut(photo, random) for photo in _photographs() for _ in range(count)]
    return {"photographs without a face, cut and turned": photographs, "noise and textures": _textures(random, count)}


def _cut(photo: Frame, random: np.random.Generator) -> Frame:
    height, width = photo.shape[:2]
    side = int(random.integers(60, height))
    x, y = int(random.integers(0, width - side)), int(random.integers(0, height - side))
    cut = np.ascontiguousarray(np.rot90(photo[y : y + side, x : x + side], int(random.integers(4))))
    target = int(random.choice([128, 256, 512, 1024, 2048]))
    return _frame(cv2.resize(cut, (target, target)))


def _textures(random: np.random.Generator, count: int) -> list[Frame]:
    """Noise of every grain, gradients, checks."""
    images = []
    for number in range(count):
        grain, side = 2.0 ** (number % 6), int(random.choice([256, 480, 960, 1500]))
        noise = random.normal(0, 1, (side, side, 3)).astype(np.float32)
        soft = cv2.GaussianBlur(noise, (0, 0), grain)
        images.append(_frame(cv2.normalize(soft, np.empty_like(soft), 0, 255, cv2.NORM_MINMAX)))
    rows, columns = np.mgrid[:480, :640]
    images += [
        np.repeat(((rows * a + columns * b) % 256)[..., None], 3, 2).astype(np.uint8) for a, b in ((1, 0), (0, 1))
    ]
    images += [np.repeat(((rows // n + columns // n) % 2 * 255)[..., None], 3, 2).astype(np.uint8) for n in (4, 16, 64)]
    return images


def _cost_row(size: tuple[int, int], portrait: _Portrait, finder: FaceFinder, one_scale: _Search, quick: bool) -> Row:
    width, height = size
    empty = _frame(cv2.resize(_photographs()[0], size))
    frame = empty.copy()
    small = portrait.resized(height / 2 / portrait.box[3])
    _paste(frame, small.pixels, width // 3 - round(small.box[0]), height // 4 - round(small.box[1]))
    works = {
        "one": partial(one_scale, frame),
        "face": partial(finder.find, frame),
        "none": partial(finder.find, empty),
    }
    taken = in_turn(works, 3 if quick or width > 4000 else 15)
    factor, none = ratios(taken["face"], taken["one"])[0], median(taken["none"])
    one, face = median(taken["one"]), median(taken["face"])
    figure = f"{one:.0f} ms at one scale, {face:.0f} ms ({factor:.2f} x), without a face {none:.0f} ms"
    wanted = size == _FRAMES[0]
    target, met = ("at most 1.5 x", factor <= 1.5) if wanted else ("", None)
    return Row(situation=f"cost of {width} x {height}", tried=len(taken["face"]), figure=figure, target=target, met=met)


_Search = Callable[[Frame], list[Box]]


def _one_scale(detector: Any, image: Frame) -> list[Box]:
    height, width = image.shape[:2]
    scale = min(1.0, 960 / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    detector.setInputSize(size)
    _, rows = detector.detect(image if scale == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    boxes = [_inside(row[:4] / scale, width, height) for row in (() if rows is None else rows)]
    return sorted((b for b in boxes if max(b[2:]) >= 24), key=lambda b: -b[2] * b[3])


def _inside(row: Any, width: int, height: int) -> Box:
    left, top = max(0, round(float(row[0]))), max(0, round(float(row[1])))
    right, bottom = min(width, round(float(row[0] + row[2]))), min(height, round(float(row[1] + row[3])))
    return left, top, max(0, right - left), max(0, bottom - top)


def _read(folder: Path, step: int) -> list[Frame]:
    return [read_image(path).pixels for path in find_images(folder)[::step]]


def _photographs() -> list[Frame]:
    from sklearn.datasets import load_sample_images

    return [np.ascontiguousarray(image[:, :, ::-1]) for image in load_sample_images().images]


def _box(crop: FaceCrop) -> Box:
    x, y, w, h = crop.face.box
    return float(x), float(y), float(w), float(h)


def _frame(image: Any) -> Frame:
    return np.ascontiguousarray(image, np.uint8)
