"""Calibration images: selection and preprocessing."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import _core
from ..core.errors import DataError, ImageError
from ..core.files import sha256_bytes
from ..core.images import left_out_note, read_image, search_images
from ..core.progress import Progress
from ..core.spec import ModelSpec
from ..train.contents import Content, content_of, hash_image, nearest

MIN_IMAGES = 32
_log = logging.getLogger(__name__)
_FLAT_SPREAD = 2.0 / 255.0  # standard deviation of a channel in [-1, 1]: one colour after rounding

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class CalibrationImages:
    """Images for collecting ranges: readable, not of one colour, without near-duplicates."""

    paths: tuple[Path, ...]
    fingerprint: str  # SHA-256 over the hashes of the files, in order


def choose_images(
    candidates: Sequence[Path], count: int, spec: ModelSpec, *, progress: Progress, least: int = MIN_IMAGES
) -> CalibrationImages:
    """Return at most `count` of the candidates, sorted by the hash of their names, which mixes folders evenly.

    Skips images that can't be read, have a single colour, or look like an image already chosen (for example the same
    face at another JPEG quality). Raises DataError with the reasons if fewer than `least` remain.
    """
    if count < least:
        raise DataError(f"{count} images are too few to calibrate on: at least {least} are needed; increase --images")
    kept: dict[str, Path] = {}  # by the hash of the file
    contents: list[Content] = []
    unreadable = flat = copies = 0
    for path in sorted(candidates, key=lambda path: (hashlib.sha256(path.name.encode()).digest(), path)):
        try:
            pixels = read_image(path).pixels
            digest = hash_image(path)
        except ImageError:
            unreadable += 1
            continue
        if float(_preprocessed(pixels, spec.image_size).std(axis=(1, 2)).max()) < _FLAT_SPREAD:
            flat += 1
            continue
        content = content_of(pixels)
        if _is_among(content, contents):
            copies += 1
            continue
        kept[digest] = path
        contents.append(content)
        progress("choosing images", len(kept), count)
        if len(kept) == count:
            break
    if len(kept) < least:
        useless = {"can't be read": unreadable, "have a single colour": flat, "look the same as others": copies}
        raise DataError(_too_few(len(kept), least, useless))
    return CalibrationImages(tuple(kept.values()), sha256_bytes("\n".join(kept).encode()))


def plain_folder(folder: Path) -> list[Path]:
    """Return all images below a folder without classes, and log the number of skipped files.

    Raises DataError if the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"no such folder: {folder}; calibration needs a folder of face images")
    found = search_images(folder)
    if found.left_out:
        _log.warning("leakrt: note: %s", left_out_note(found.left_out))
    return list(found.images)


def preprocess_file(path: Path, size: int) -> Array:
    """Return the input of the VAE encoder for an image file, float32 [3, S, S]. Raises ImageError."""
    return _preprocessed(read_image(path).pixels, size)


def images(paths: Sequence[Path], size: int) -> Iterator[Array]:
    """Yield each image as float32 [1, 3, S, S]. Raises ImageError."""
    for path in paths:
        yield preprocess_file(path, size)[None]


def _preprocessed(pixels: npt.NDArray[np.uint8], size: int) -> Array:
    out = np.empty((3, size, size), np.float32)
    _core.preprocess(pixels, out)
    return out


def _is_among(content: Content, others: Sequence[Content]) -> bool:
    if any(content.pixels == other.pixels for other in others):
        return True
    return nearest([content.look], [other.look for other in others])[0] >= 0


def _too_few(kept: int, least: int, useless: Mapping[str, int]) -> str:
    why = ", ".join(f"{count} {reason}" for reason, count in useless.items() if count)
    rest = f" ({why})" if why else ""
    return f"{kept} usable images{rest}; calibration needs at least {least} face images"
