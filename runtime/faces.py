"""Find the faces of an image and crop a square around each, as for training images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.verdict import Face
from .face_search import Box, FaceSearch, Frame
from .forked import Home

CROP_SCALE = 1.7  # side of the square / longer side of the face
MIN_FACE = 24  # pixels of the longer side; smaller faces are ignored
MAX_FACES = 32


@dataclass(frozen=True)
class FaceCrop:
    """One face and the square around it."""

    face: Face  # its box is in pixels of the input image
    pixels: Frame  # [side, side, 3] BGR: a view of the image, or an upright copy of a rotated face
    notes: tuple[str, ...] = ()  # added to the verdict's reasons


class FaceFinder:
    """Finds faces with YuNet. Not thread-safe: OpenCV's detector keeps state between calls."""

    def __init__(self, model: str | Path) -> None:
        """Load a YuNet ONNX file. Raises ModelError if it is missing or not a YuNet, BackendError without OpenCV."""
        self._search = FaceSearch(Path(model))
        self._home = Home("the face search")

    def find(self, image: Frame) -> list[FaceCrop]:
        """Return the faces in an image uint8 [H, W, 3] BGR, largest first, at most 32. A note counts the others.

        A face rotated by 90, 180 or 270 degrees is returned as an upright crop with a note. Beside an upright face, a
        rotated one is found reliably only if it is larger than an eighth of the frame's longer side. A frame without a
        face takes longer, because rotated copies of it are searched too.
        """
        self._home.require()  # OpenCV's threads do not exist in a forked child
        height, width = image.shape[:2]
        found = [(_clip(one.box, width, height), one.turn) for one in self._search.find(image)]
        found = [(box, turn) for box, turn in found if max(box[2:]) >= MIN_FACE]
        found.sort(
            key=lambda one: (-one[0][2] * one[0][3], one[0])
        )  # equal sizes from left to right, so the order is deterministic
        more = len(found) - MAX_FACES
        notes = (f"{more} smaller faces of this image were not classified",) if more > 0 else ()
        return [_crop(image, Face(i, box), turn, notes=notes) for i, (box, turn) in enumerate(found[:MAX_FACES])]


def crop_square(image: Frame, box: tuple[int, int, int, int]) -> Frame:
    """Return a view of the square around `box` (x, y, width, height), uint8 [side, side, 3].

    The side is 1.7 x the longer side of `box`, at most the image's shorter side. The square is centred on `box`, and
    shifted to lie inside the image.
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
    note = f"the face is rotated by {90 * turn} degrees clockwise; it was classified upright"
    return FaceCrop(face, np.ascontiguousarray(np.rot90(square, turn)), (note, *notes))


def _clip(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """Round a box to whole pixels and clip it to the image."""
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[0] + box[2])), min(height, round(box[1] + box[3]))
    return left, top, max(0, right - left), max(0, bottom - top)
