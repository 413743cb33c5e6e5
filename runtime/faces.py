"""Faces in an image, and the square around each that a detector is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.verdict import Face
from .face_search import Box, FaceSearch, Frame
from .forked import Home

CROP_SCALE = 1.7  # side of the square over the longer side of the face
MIN_FACE = 24  # pixels of the longer side; below, nothing is left to judge
MAX_FACES = 32


@dataclass(frozen=True)
class FaceCrop:
    """One face and the square around it."""

    face: Face  # its box lies in the image as it was handed in
    pixels: Frame  # [side, side, 3] BGR: a view of the image; of a turned face an upright copy
    notes: tuple[str, ...] = ()  # what a reader of the verdict must know


class FaceFinder:
    """Finds faces with YuNet. Not safe for two threads at once: OpenCV's detector keeps state between calls."""

    def __init__(self, model: str | Path) -> None:
        """Load the ONNX file. Raises ModelError when it is missing or not a YuNet, BackendError without OpenCV."""
        self._search = FaceSearch(Path(model))
        self._home = Home("the face search")

    def find(self, image: Frame) -> list[FaceCrop]:
        """The faces in an image uint8 [H, W, 3] BGR, the largest first, at most 32. A note counts the others.

        A face that is turned by a quarter or half a turn comes as an upright crop with a note. Beside an upright face,
        a turned one is found reliably only above an eighth of the frame's longer side. With an upright face a frame
        costs 1.3 to 1.8 x one search at 960 pixels from 640 x 480 to 1280 x 720, and 3.5 x at 1920 x 1080; a frame
        without a face costs three to four times that.
        """
        self._home.require()  # OpenCV's threads are not there in a forked child
        height, width = image.shape[:2]
        found = [(_clip(one.box, width, height), one.turn) for one in self._search.find(image)]
        found = [(box, turn) for box, turn in found if max(box[2:]) >= MIN_FACE]
        found.sort(key=lambda one: (-one[0][2] * one[0][3], one[0]))  # equal sizes from left to right: a fixed order
        more = len(found) - MAX_FACES
        notes = (f"{more} smaller faces of this image were not judged",) if more > 0 else ()
        return [_crop(image, Face(i, box), turn, notes=notes) for i, (box, turn) in enumerate(found[:MAX_FACES])]


def crop_square(image: Frame, box: tuple[int, int, int, int]) -> Frame:
    """The square of 1.7 x the longer side of `box` (x, y, width, height) around its centre, moved inside the image.

    A view, uint8 [side, side, 3]; where the image is smaller than that square its shorter side limits it.
    """
    height, width = image.shape[:2]
    x, y, w, h = box
    side = min(round(CROP_SCALE * max(w, h)), width, height)
    left = min(max(round(x + w / 2 - side / 2), 0), width - side)
    top = min(max(round(y + h / 2 - side / 2), 0), height - side)
    return image[top : top + side, left : left + side]


def _crop(image: Frame, face: Face, turn: int, *, notes: tuple[str, ...]) -> FaceCrop:
    square = crop_square(image, face.box)
    if turn == 0:
        return FaceCrop(face, square, notes)
    note = f"the face is turned by {90 * turn} degrees clockwise; it was judged upright"
    return FaceCrop(face, np.ascontiguousarray(np.rot90(square, turn)), (note, *notes))


def _clip(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """A box in whole pixels that lies inside the image."""
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[0] + box[2])), min(height, round(box[1] + box[3]))
    return left, top, max(0, right - left), max(0, bottom - top)
