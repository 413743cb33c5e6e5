"""Content hashes of decoded images: an exact hash of the pixels and a perceptual hash.

A picture saved as PNG, as BMP or with other metadata keeps its pixel hash. At another size or JPEG quality it keeps a
similar perceptual hash; benchmarks/situations/folders.py measures the failure rate.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import ImageError
from ..core.files import make_folder, sha256_file, storage_error
from ..core.images import MAX_FILE_BYTES, READER_VERSION, DecodedImage, read_image
from ..core.progress import Progress

NEAR = 20  # bits of 256 in which the perceptual hashes of similar pictures may differ
_SIDE, _KEPT = 64, 16  # side of the downscaled picture; side of the block of DCT coefficients
_FLAT = 2.0  # standard deviation of the downscaled picture, of 255; flatter ones have no perceptual hash
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{64}) ([0-9a-f]{64}|-) (\[.*\])")
_BLOCK = 4096  # rows of a matrix of distances


@dataclass(frozen=True)
class Content:
    """Hashes of one decoded image."""

    pixels: str  # SHA-256 over shape and pixels, in hex
    look: str  # perceptual hash, 256 bits in hex; empty for a flat picture
    notes: tuple[str, ...] = ()  # conversions and choices of the reader, such as a colour profile


@dataclass(frozen=True)
class Seen:
    """A readable file with its hashes."""

    digest: str  # SHA-256 of the file, in hex
    content: Content


class ContentCache:
    """Contents by the SHA-256 of the file, in an append-only text file beside the latents.

    An incomplete line is skipped, and its image is decoded again.
    """

    def __init__(self, root: Path) -> None:
        """Open the cache below `root`. Raises StorageError."""
        self._path = root / f"contents-reader{READER_VERSION}.txt"
        try:
            text = self._path.read_text("ascii", errors="replace") if self._path.exists() else ""
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._known = dict(filter(None, map(_parse, text.splitlines())))

    def get(self, digest: str) -> Content | None:
        """Return the content of the file with this hash, or None if it is not cached."""
        return self._known.get(digest)

    def add(self, found: Mapping[str, Content]) -> None:
        """Store contents by the hashes of their files. Raises StorageError."""
        new = {digest: content for digest, content in found.items() if digest not in self._known}
        if not new:
            return
        make_folder(self._path.parent)
        lines = "".join(
            f"{digest} {one.pixels} {one.look or '-'} {json.dumps(one.notes)}\n" for digest, one in new.items()
        )
        try:
            with open(self._path, "a", encoding="ascii") as handle:
                handle.write(f"\n{lines}")  # the line break ends an incomplete line
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._known |= new


def see_images(
    paths: Sequence[Path], cache: ContentCache, *, threads: int, progress: Progress
) -> list[Seen | ImageError]:
    """Return the hashes of each file, or the error if it is unreadable. Cached files are not decoded again.

    Raises StorageError if the cache can't be written.
    """

    def see(path: Path) -> Seen | ImageError:
        try:
            digest = hash_image(path)
            return Seen(digest, cache.get(digest) or _content(read_image(path)))
        except ImageError as error:
            return error

    found = []
    with ThreadPoolExecutor(threads) as pool:
        for done, one in enumerate(pool.map(see, paths), 1):
            found.append(one)
            progress("reading images", done, len(paths))
    cache.add({one.digest: one.content for one in found if isinstance(one, Seen)})
    return found


def _content(read: DecodedImage) -> Content:
    return replace(content_of(read.pixels), notes=read.notes)


def _parse(line: str) -> tuple[str, Content] | None:
    """Parse a line of the cache; None for an incomplete one."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    try:
        notes: list[object] = json.loads(match[4])
    except ValueError:
        return None
    return match[1], Content(match[2], match[3].strip("-"), tuple(map(str, notes)))


def hash_image(path: Path) -> str:
    """Return the SHA-256 of an image file in hex.

    Raises ImageError if it is not a regular file, too large or unreadable.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(f"{path}: the file has more than {MAX_FILE_BYTES >> 20} MiB")
        return sha256_file(path)
    except OSError as error:
        raise ImageError(f"{path}: can't be read ({error.strerror or error})") from error


def content_of(pixels: npt.NDArray[np.uint8]) -> Content:
    """Return the hashes of a decoded image, uint8 [H, W, 3] BGR.

    Each bit of `look` states whether one of the 16 x 16 lowest DCT coefficients is above their median.
    """
    from PIL import Image
    from scipy.fft import dctn

    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    grey = Image.fromarray(pixels).convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
    small = np.asarray(grey, np.float32)
    if float(small.std()) < _FLAT:
        return Content(digest.hexdigest(), "")
    low = dctn(small, norm="ortho")[:_KEPT, :_KEPT].ravel()[1:]  # the first is the mean brightness
    bits = np.append(low > np.median(low), False)
    return Content(digest.hexdigest(), np.packbits(bits).tobytes().hex())


def nearest(looks: Sequence[str], others: Sequence[str]) -> list[int]:
    """Return the position of the nearest of `others` within NEAR bits for each look, or -1."""
    found = np.full(len(looks), -1, np.int64)
    rows = np.array([i for i, look in enumerate(looks) if look], np.int64)
    columns = np.array([j for j, look in enumerate(others) if look], np.int64)
    if not len(rows) or not len(columns):
        return list(map(int, found))
    right = _signs(others[j] for j in columns)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        distance = (right.shape[1] - _signs(looks[i] for i in block) @ right.T) / 2
        best = distance.argmin(axis=1)
        close = distance[np.arange(len(block)), best] <= NEAR
        found[block[close]] = columns[best[close]]
    return list(map(int, found))


def _signs(looks: Iterable[str]) -> npt.NDArray[np.float32]:
    """Return float32 [N, 256] of -1 and 1, whose dot products count equal bits."""
    packed = np.array([np.frombuffer(bytes.fromhex(look), np.uint8) for look in looks])
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def named(paths: Sequence[Path], *, most: int = 3) -> str:
    """Join the first paths for a message."""
    rest = ", ..." if len(paths) > most else ""
    return ", ".join(os.fspath(path) for path in paths[:most]) + rest
