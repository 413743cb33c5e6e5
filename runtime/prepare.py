"""From an image file or array to what the VAE encoder takes: read, find faces, crop, preprocess."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..core.errors import ImageError
from ..core.images import MIN_SIDE, ImageFile, read_image
from ..core.verdict import Face
from .backends.base import Frame as Frame
from .faces import FaceFinder
from .pipeline import Input

Image = str | Path | Frame
NO_FACE = "no face was found"


@dataclass(frozen=True)
class Crop:
    """What is to be judged: a face, or the whole image; `pixels` is None where no face was found."""

    path: str  # empty for an array
    pixels: Frame | None  # [H, W, 3] BGR
    face: Face | None = None
    notes: tuple[str, ...] = ()
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # stages so far


@dataclass(frozen=True)
class Prepared:
    """A crop as the pipeline takes it, or why there is none."""

    path: str
    image: Input | None
    face: Face | None = None
    notes: tuple[str, ...] = ()
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


class Preparer:
    """Reads images, and crops and preprocesses what they show."""

    def __init__(self, prepare: Callable[[Frame], Input], faces: FaceFinder | None, max_pixels: int) -> None:
        """`prepare` is the pipeline's; without `faces` whole images are judged."""
        self._prepare, self._faces, self._max_pixels = prepare, faces, max_pixels

    def crops(self, image: Image) -> list[Crop]:
        """The faces of an image, the largest first, or the whole image; always at least one. Raises ImageError."""
        begin = time.perf_counter()
        if isinstance(image, np.ndarray):
            path, read, stages = "", ImageFile(_checked(image)), {}
        else:
            path, read = str(image), read_image(image, self._max_pixels)
            stages = {"decode": _since(begin)}
        if self._faces is None:
            return [Crop(path, read.pixels, None, read.notes, stages)]
        begin = time.perf_counter()
        found = self._faces.find(read.pixels)
        stages["faces"] = _since(begin)
        if not found:
            return [Crop(path, None, None, (*read.notes, NO_FACE), stages)]
        return [Crop(path, crop.pixels, crop.face, read.notes, stages) for crop in found]

    def preprocess(self, crop: Crop) -> Prepared:
        """The crop as the pipeline takes it: preprocessed, unless the device does that."""
        if crop.pixels is None:
            return Prepared(crop.path, None, None, crop.notes, crop.latency_ms)
        begin = time.perf_counter()
        image = self._prepare(crop.pixels)
        stages = {**crop.latency_ms, "preprocess": _since(begin)}
        return Prepared(crop.path, image, crop.face, crop.notes, stages)

    def prepare(self, image: Image) -> list[Prepared]:
        """`crops`, each preprocessed; an unreadable image gives one Prepared that holds its error."""
        try:
            return [self.preprocess(crop) for crop in self.crops(image)]
        except ImageError as error:
            return [unreadable(image, error)]


def unreadable(image: Image, error: ImageError) -> Prepared:
    """What stands for an image that can't be judged."""
    return Prepared("" if isinstance(image, np.ndarray) else str(image), None, error=str(error))


def _checked(frame: Frame) -> Frame:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ImageError(f"an image must be uint8 [H, W, 3] BGR, not {frame.dtype} {list(frame.shape)}")
    if min(frame.shape[:2]) < MIN_SIDE:
        height, width = frame.shape[:2]
        raise ImageError(f"the image is {width} x {height}; each side needs at least {MIN_SIDE} pixels")
    pixels_together = frame.strides[1:] == (3, 1)  # the kernel takes rows that lie apart, not pixels
    return frame if pixels_together else np.ascontiguousarray(frame)


def _since(begin: float) -> float:
    return 1e3 * (time.perf_counter() - begin)
