"""Find faces and their rotation: YuNet detects at several scales, and a close-up confirms each detection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import BackendError, ModelError, one_line
from ..core.files import read_bounded

Frame = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]  # x, y, width, height in pixels

_MODEL_LIMIT = 64 << 20
# Score thresholds:
# - _PROPOSAL: a detection in the frame becomes a proposal.
# - _CONFIDENCE: a proposal needs only a close-up score of _CONFIRMED.
# - _STRONG: the close-up score that a weaker proposal, or a change of rotation, needs.
# - _CERTAIN: if a face reaches it, rotated copies of the image are not searched.
_PROPOSAL, _CONFIDENCE, _CONFIRMED, _STRONG, _CERTAIN = 0.2, 0.7, 0.6, 0.85, 0.9
_OVERLAP, _CANDIDATES = 0.3, 512
_TURNED_OVERLAP = 0.1  # boxes of one face at different rotations overlap less: the wrong rotation finds a part of it
_MAX_CLOSE_UPS = 64  # bounds the time on textures with many proposals
# YuNet reliably finds faces of 40 to 500 pixels, and most of 32 pixels. The main scale limits the longer side to 960
# pixels. A larger image is also searched at a fine scale that maps 48 pixels to 32. If the main scale has room for a
# face over 400 pixels, the image is also searched at a quarter of it.
_MAIN_SIDE, _FINE_SCALE, _LARGE_FACE, _SMALL_SCALE = 960, 2 / 3, 400, 0.25
_MAIN_BONUS = 0.05  # another scale's box replaces the main scale's only if its score is higher by this
_TILE, _TILE_OVERLAP = 1600, 320  # tiles bound memory; faces larger than the overlap are found at the main scale
_CLOSE_UP, _MARGIN = 128, 2.0  # pixels per side; close-up side / face side
_RIM = 8  # a box nearer to the edge may be part of a larger face: it only confirms an existing proposal
_TURN_LEAD = 0.05  # by which a quarter turn must score higher: a face at 45 degrees counts as upright


@dataclass(frozen=True, kw_only=True)
class Found:
    """A detected face, or a proposal."""

    box: Box
    score: float
    main: bool = False  # found at the main scale
    turn: int = 0  # clockwise quarter turns of the face

    @property
    def rank(self) -> float:
        """Priority among overlapping boxes; the highest is kept."""
        return self.score + (_MAIN_BONUS if self.main else 0.0)


@dataclass(frozen=True, kw_only=True)
class _Level:
    """An image at one scale."""

    pixels: Frame
    scale: float
    main: bool = False


class FaceSearch:
    """A loaded YuNet model. Not thread-safe: OpenCV's detector keeps state between calls."""

    def __init__(self, model: Path) -> None:
        """Load a YuNet ONNX file. Raises ModelError if it is missing or not a YuNet, BackendError without OpenCV."""
        self._cv2 = _import_cv2()
        self._detector = self._create(model)

    def _create(self, model: Path) -> Any:
        try:
            data = read_bounded(model, _MODEL_LIMIT)
        except OSError as error:
            raise ModelError(f"can't read the face model {model}: {error.strerror or error}") from error
        buffer = np.frombuffer(data, np.uint8)
        try:
            detector = self._cv2.FaceDetectorYN.create(
                "onnx", buffer, np.empty(0, np.uint8), (320, 320), _PROPOSAL, _OVERLAP, _CANDIDATES
            )
            detector.detect(np.zeros((320, 320, 3), np.uint8))
        except self._cv2.error as error:
            raise ModelError(f"{model} is not a YuNet face model that OpenCV can run: {one_line(error)}") from error
        return detector

    def find(self, image: Frame) -> list[Found]:
        """Return the faces of an image uint8 [H, W, 3] BGR, unordered, with boxes in pixels of the image.

        Rotated copies of the image are searched only if it shows no face with a high score as it is.
        """
        height, width = image.shape[:2]
        levels = self._levels(image)
        sources = [*levels, _Level(pixels=image, scale=1.0)]
        found = self._confirmed(sources, self._proposals(levels))
        if any(one.score >= _CERTAIN for one in found):
            return found
        turned: list[Found] = []
        for turn in (1, 2, 3):
            copies = [replace(level, pixels=self._rotated(level.pixels, turn)) for level in levels]
            proposals = self._proposals(copies)
            turned += (
                replace(p, box=turn_back(p.box, turn, width, height=height), turn=turn, main=False) for p in proposals
            )
        return merged(found + self._confirmed(sources, turned))

    def _levels(self, image: Frame) -> list[_Level]:
        """Return the image at every scale that is searched."""
        side = max(image.shape[:2])
        scale = min(1.0, _MAIN_SIDE / side)
        main = image if scale == 1.0 else self._resize(image, _size(image, scale), self._cv2.INTER_AREA)
        levels = [_Level(pixels=main, scale=scale, main=True)]
        if scale < _FINE_SCALE:
            fine = self._resize(image, _size(image, _FINE_SCALE), self._cv2.INTER_LINEAR)
            levels.append(_Level(pixels=fine, scale=_FINE_SCALE))
        if side * scale > _LARGE_FACE:
            small = self._resize(main, _size(main, _SMALL_SCALE), self._cv2.INTER_AREA)
            levels.append(_Level(pixels=small, scale=scale * _SMALL_SCALE))
        return levels

    def _proposals(self, levels: list[_Level]) -> list[Found]:
        found: list[Found] = []
        for level in levels:
            for x, y, tile in tiles(level.pixels):
                for box, score in self._detect(tile):
                    shifted = (box[0] + x, box[1] + y, box[2], box[3])
                    found.append(Found(box=scaled(shifted, 1 / level.scale), score=score, main=level.main))
        return found

    def _confirmed(self, sources: list[_Level], proposals: list[Found]) -> list[Found]:
        """Return the proposals that a close-up confirms, with their rotation."""
        close = (self._close_up(sources, p) for p in merged(proposals)[:_MAX_CLOSE_UPS])
        return merged([found for found in close if found is not None])

    def _close_up(self, sources: list[_Level], proposal: Found) -> Found | None:
        """Search the square around a proposal at every rotation; None if it is not a face."""
        x, y, w, h = proposal.box
        side = _MARGIN * max(w, h)
        left, top = x + w / 2 - side / 2, y + h / 2 - side / 2
        patch = self._patch(sources, left, top, side=side)
        scale = _CLOSE_UP / side
        expected = scaled((x - left, y - top, w, h), scale)
        seen = self._all_turns(patch, expected)
        own, best = seen[proposal.turn], max(seen, key=lambda one: one.score)
        lead = _TURN_LEAD if proposal.score >= _CONFIDENCE and (best.turn - proposal.turn) % 2 else 0.0
        if best.score < _STRONG or best.score < own.score + lead:
            best = own
        if best is own and proposal.score >= _CONFIDENCE and own.score >= _CONFIRMED:
            return proposal
        if best.score < _STRONG:
            return None
        bx, by, bw, bh = scaled(best.box, 1 / scale)
        return replace(best, box=(bx + left, by + top, bw, bh))

    def _all_turns(self, patch: Frame, expected: Box) -> list[Found]:
        """Return, for 0 to 3 counterclockwise quarter turns, the best box near `expected`; score 0 if there is none."""
        best = [Found(box=expected, score=0.0, turn=turn) for turn in range(4)]
        both = [np.concatenate([np.rot90(patch, turn), np.rot90(patch, turn + 1)], axis=1) for turn in (0, 2)]
        for (x, y, w, h), score in self._detect(np.concatenate(both)):  # one call for four patches takes half the time
            column, row = x + w / 2 >= _CLOSE_UP, y + h / 2 >= _CLOSE_UP
            turn = 2 * row + column
            box = turn_back((x - column * _CLOSE_UP, y - row * _CLOSE_UP, w, h), turn, _CLOSE_UP, height=_CLOSE_UP)
            whole = min(box[:2]) >= _RIM and max(box[0] + box[2], box[1] + box[3]) <= _CLOSE_UP - _RIM
            score = score if whole else min(score, _CONFIRMED)
            if score > best[turn].score and overlap(box, expected) > _OVERLAP:
                best[turn] = replace(best[turn], box=box, score=score)
        return best

    def _patch(self, levels: list[_Level], left: float, top: float, *, side: float) -> Frame:
        """Crop a square and resize it to the close-up's side; grey outside the image."""
        large = [level for level in levels if side * level.scale >= _CLOSE_UP]
        level = min(large, key=lambda one: one.scale) if large else max(levels, key=lambda one: one.scale)
        height, width = level.pixels.shape[:2]
        left, top, side = left * level.scale, top * level.scale, side * level.scale
        x0, y0 = max(0, round(left)), max(0, round(top))
        x1, y1 = min(width, round(left + side)), min(height, round(top + side))
        scale = _CLOSE_UP / side
        u0, v0 = max(0, round((x0 - left) * scale)), max(0, round((y0 - top) * scale))
        u1, v1 = round((x1 - left) * scale), round((y1 - top) * scale)
        patch = np.full((_CLOSE_UP, _CLOSE_UP, 3), 127, np.uint8)
        part = patch[v0:v1, u0:u1]
        if x1 > x0 and y1 > y0 and part.size:
            how = self._cv2.INTER_AREA if scale < 1 else self._cv2.INTER_LINEAR
            part[:] = self._resize(level.pixels[y0:y1, x0:x1], (part.shape[1], part.shape[0]), how)
        return patch

    def _resize(self, image: Frame, size: tuple[int, int], interpolation: int) -> Frame:
        resized: Frame = self._cv2.resize(image, size, interpolation=interpolation)
        return resized

    def _rotated(self, image: Frame, turn: int) -> Frame:
        """Return `np.rot90(image, turn)` for 1 to 3 quarter turns; faster, and contiguous."""
        cv2 = self._cv2
        quarters = (cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
        rotated: Frame = cv2.rotate(image, quarters[turn - 1])
        return rotated

    def _detect(self, image: Frame) -> Iterator[tuple[Box, float]]:
        self._detector.setInputSize((image.shape[1], image.shape[0]))
        _, rows = self._detector.detect(image)
        for row in () if rows is None else rows:
            yield (float(row[0]), float(row[1]), float(row[2]), float(row[3])), float(row[14])


def _size(image: Frame, scale: float) -> tuple[int, int]:
    height, width = image.shape[:2]
    return max(1, round(width * scale)), max(1, round(height * scale))


def tiles(image: Frame) -> Iterator[tuple[int, int, Frame]]:
    """Yield overlapping tiles of an image with their left and top edge; a small image is one tile."""
    height, width = image.shape[:2]
    for y in _starts(height):
        for x in _starts(width):
            yield x, y, image[y : y + _TILE, x : x + _TILE]


def _starts(length: int) -> Iterable[int]:
    return range(0, max(1, length - _TILE_OVERLAP), _TILE - _TILE_OVERLAP)


def merged(found: list[Found]) -> list[Found]:
    """Return the best of each group of overlapping boxes, best first."""
    kept: list[Found] = []
    for one in sorted(found, key=lambda f: (-f.rank, f.box)):
        if not any(_same(one, other) for other in kept):
            kept.append(one)
    return kept


def _same(one: Found, other: Found) -> bool:
    return overlap(one.box, other.box) > (_OVERLAP if one.turn == other.turn else _TURNED_OVERLAP)


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def scaled(box: Box, factor: float) -> Box:
    return box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor


def turn_back(box: Box, turn: int, width: int, *, height: int) -> Box:
    """Map a box in `np.rot90(image, turn)` to the image, whose size is `width` x `height`."""
    x, y, w, h = box
    if turn == 1:
        return width - y - h, x, h, w
    if turn == 2:
        return width - x - w, height - y - h, w, h
    if turn == 3:
        return y, height - x - w, h, w
    return box


def _import_cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise BackendError(
            f"can't import OpenCV: {error}; install it with: pip install opencv-python-headless"
        ) from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # errors are raised as exceptions too
    return cv2
