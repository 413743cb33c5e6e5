"""Faces in an image: YuNet through OpenCV, and the square that a detector is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import BackendError, ModelError, one_line
from ..core.files import read_bounded
from ..core.verdict import Face

Frame = npt.NDArray[np.uint8]

CROP_SCALE = 1.7  # side of the square over the longer side of the face
MIN_FACE = 24  # pixels of the longer side; below, nothing is left to judge
MAX_FACES = 32
_SEARCH_SIDE = 960  # YuNet searches at no more than this many pixels a side: memory and time stay bounded
_CONFIDENCE, _OVERLAP, _CANDIDATES = 0.7, 0.3, 512
_MODEL_LIMIT = 64 << 20


@dataclass(frozen=True)
class FaceCrop:
    """One face and the square around it."""

    face: Face
    pixels: Frame  # [side, side, 3] BGR, a view of the image


class FaceFinder:
    """A loaded YuNet model. Not safe for two threads at once: OpenCV's detector keeps state between calls."""

    def __init__(self, model: str | Path) -> None:
        """Load the ONNX file. Raises ModelError when it is missing or not a YuNet, BackendError without OpenCV."""
        self._cv2 = _import_cv2()
        self._detector = self._create(Path(model))

    def _create(self, model: Path) -> Any:
        try:
            data = read_bounded(model, _MODEL_LIMIT)
        except OSError as error:
            raise ModelError(f"{model}: the face model can't be read ({error.strerror or error})") from error
        buffer = np.frombuffer(data, np.uint8)
        try:
            detector = self._cv2.FaceDetectorYN.create(
                "onnx", buffer, np.empty(0, np.uint8), (320, 320), _CONFIDENCE, _OVERLAP, _CANDIDATES
            )
            detector.detect(np.zeros((320, 320, 3), np.uint8))
        except self._cv2.error as error:
            raise ModelError(f"{model}: not a YuNet face model that OpenCV can run ({one_line(error)})") from error
        return detector

    def find(self, image: Frame) -> list[FaceCrop]:
        """The faces in an image uint8 [H, W, 3] BGR, the largest first, at most 32."""
        height, width = image.shape[:2]
        scale = min(1.0, _SEARCH_SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        searched = image if scale == 1.0 else self._cv2.resize(image, size, interpolation=self._cv2.INTER_AREA)
        self._detector.setInputSize(size)
        _, rows = self._detector.detect(searched)
        boxes = [_clip(row[:4] / scale, width, height) for row in (() if rows is None else rows)]
        boxes = [box for box in boxes if max(box[2:]) >= MIN_FACE]
        boxes.sort(key=lambda box: (-box[2] * box[3], box))  # equal sizes from left to right: a fixed order
        return [FaceCrop(Face(i, box), crop_square(image, box)) for i, box in enumerate(boxes[:MAX_FACES])]


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


def _clip(box: npt.NDArray[np.floating[Any]], width: int, height: int) -> tuple[int, int, int, int]:
    """A box in whole pixels that lies inside the image."""
    left, top = max(0, round(float(box[0]))), max(0, round(float(box[1])))
    right = min(width, round(float(box[0] + box[2])))
    bottom = min(height, round(float(box[1] + box[3])))
    return left, top, max(0, right - left), max(0, bottom - top)


def _import_cv2() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise BackendError(
            f"OpenCV can't be loaded ({error}); install it with: pip install opencv-python-headless"
        ) from error
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # what fails is raised as well
    return cv2
