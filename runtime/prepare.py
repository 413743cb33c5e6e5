"""Prepare images for the pipeline: read, find faces, crop, preprocess."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import ImageError, UsageError, one_line
from ..core.images import MIN_SIDE, DecodedImage, convert_image, read_image
from ..core.verdict import Face
from .faces import FaceFinder
from .forked import ForkLock
from .inputs import Frame as Frame
from .inputs import Image as Image
from .inputs import checked_frame, is_pil, path_of, refuse
from .pipeline import Input

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

NO_FACE = "no face was found"


@dataclass(frozen=True, kw_only=True)
class Crop:
    """The part of an image to classify: a face, or the whole image. `pixels` is None if no face was found."""

    path: str  # empty if the image was not given as a path
    pixels: Frame | None  # [H, W, 3] BGR
    face: Face | None = None
    notes: tuple[str, ...] = ()
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # stages so far
    borrowed: bool = False  # the pixels are a view of the caller's array, which the caller may modify


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A crop as pipeline input, or the reason why there is none."""

    path: str
    image: Input | None
    face: Face | None = None
    notes: tuple[str, ...] = ()
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None


class Preparer:
    """Reads, crops and preprocesses images."""

    def __init__(self, prepare: Callable[[Frame], Input], faces: FaceFinder | None, max_pixels: int) -> None:
        """`prepare`: `Pipeline.prepare`. Without `faces`, whole images are classified."""
        self._prepare, self._faces, self._max_pixels = prepare, faces, max_pixels
        self._finding = ForkLock()  # a FaceFinder is not thread-safe

    def crops(self, image: Image) -> list[Crop]:
        """Return the faces of an image, largest first, or the whole image; always at least one crop.

        Raises ImageError for an image that can't be read or classified, UsageError for any other object.
        """
        path, borrowed = path_of(image), isinstance(image, np.ndarray)
        read, stages = self._read(image)
        if self._faces is None:
            return [
                Crop(path=path, pixels=read.pixels, face=None, notes=read.notes, latency_ms=stages, borrowed=borrowed)
            ]
        begin = time.perf_counter()
        with self._finding:
            found = self._faces.find(read.pixels)
        stages["faces"] = _since(begin)
        if not found:
            return [Crop(path=path, pixels=None, face=None, notes=(*read.notes, NO_FACE), latency_ms=stages)]
        return [
            Crop(
                path=path,
                pixels=c.pixels,
                face=c.face,
                notes=(*read.notes, *c.notes),
                latency_ms=stages,
                borrowed=borrowed,
            )
            for c in found
        ]

    def preprocess(self, crop: Crop, *, own: bool) -> Prepared:
        """Return a crop as pipeline input: preprocessed, unless the device preprocesses.

        `own`: copy pixels that would otherwise remain a view of the caller's array.
        """
        if crop.pixels is None:
            return Prepared(path=crop.path, image=None, face=None, notes=crop.notes, latency_ms=crop.latency_ms)
        begin = time.perf_counter()
        image = self._prepare(crop.pixels)
        if own and crop.borrowed and np.may_share_memory(image, crop.pixels):
            image = image.copy()
        stages = {**crop.latency_ms, "preprocess": _since(begin)}
        return Prepared(path=crop.path, image=image, face=crop.face, notes=crop.notes, latency_ms=stages)

    def prepare(self, image: Image) -> list[Prepared]:
        """Return all crops, preprocessed. An image that can't be classified returns one Prepared with its error.

        The caller may modify an array as soon as this returns.
        """
        try:
            return [self.preprocess(crop, own=True) for crop in self.crops(image)]
        except (ImageError, UsageError) as error:
            return [unreadable(image, error)]

    def _read(self, image: Image) -> tuple[DecodedImage, dict[str, float]]:
        """Return the pixels and the time per stage in milliseconds."""
        begin = time.perf_counter()
        if isinstance(image, np.ndarray):
            return DecodedImage(checked_frame(image)), {}
        if path_of(image):
            read = read_image(path_of(image), max_pixels=self._max_pixels)
        elif is_pil(image):
            read = frame_of(image, self._max_pixels)
        else:
            raise refuse(image)
        return read, {"decode": _since(begin)}


def unreadable(image: object, error: ImageError | UsageError) -> Prepared:
    """Return the Prepared of an image that can't be classified."""
    return Prepared(path=path_of(image), image=None, error=str(error))


def frame_of(image: PilImage, max_pixels: int) -> DecodedImage:
    """Return the pixels of a PIL image, converted like those of a file. Raises ImageError."""
    width, height = image.size
    if width * height > max_pixels:
        limit = f"{max_pixels / 1e6:g} megapixels"
        raise ImageError(f"the image has more than {limit}: it is {width} x {height}; shrink it or raise the limit")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"the image is {width} x {height}; each side needs at least {MIN_SIDE} pixels")
    try:
        return convert_image(image, max_pixels=max_pixels)
    except (ImageError, UsageError):
        raise
    except Exception as error:  # Pillow's decoders raise almost any exception on damaged bytes or a closed file
        raise ImageError(f"the image can't be decoded ({one_line(error)})") from error


def _since(begin: float) -> float:
    return 1e3 * (time.perf_counter() - begin)
