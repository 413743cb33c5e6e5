"""What an image file holds once it is decoded: a hash of its pixels, and a hash of how it looks.

The same picture as PNG, as BMP or with other metadata has the same pixels. The same picture at another size or JPEG
quality looks the same. benchmarks/situations/folders.py counts how often that fails.
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

NEAR = 20  # bits of 256 by which two pictures that look the same may differ
_SIDE, _KEPT = 64, 16  # the picture is shrunk to a square of 64, and 16 x 16 of its frequencies are kept
_FLAT = 2.0  # standard deviation of the shrunk picture, of 255; below it there is nothing to compare
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{64}) ([0-9a-f]{64}|-) (\[.*\])")
_BLOCK = 4096  # rows of a matrix of distances


@dataclass(frozen=True)
class Content:
    """Hashes of one decoded image."""

    pixels: str  # SHA-256 over shape and pixels, in hex
    look: str  # 256 bits in hex; empty for a picture of one colour, which looks like any other of that kind
    notes: tuple[str, ...] = ()  # what the reader converted or chose, such as a colour profile


@dataclass(frozen=True)
class Seen:
    """One file that was hashed and proved readable."""

    digest: str  # SHA-256 of the file, in hex
    content: Content


class ContentCache:
    """Contents by the SHA-256 of the file, in one text file beside the latents; it is added to, never rewritten.

    A line cut short by a kill is skipped, and its image is decoded again.
    """

    def __init__(self, root: Path) -> None:
        """Open or begin the cache below `root`. Raises StorageError."""
        self._path = root / f"contents-reader{READER_VERSION}.txt"
        try:
            text = self._path.read_text("ascii", errors="replace") if self._path.exists() else ""
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._known = dict(filter(None, map(_parse, text.splitlines())))

    def get(self, digest: str) -> Content | None:
        """What a file of that hash holds; None if it is not known."""
        return self._known.get(digest)

    def add(self, found: Mapping[str, Content]) -> None:
        """Keep contents by the hashes of their files. Raises StorageError."""
        new = {digest: content for digest, content in found.items() if digest not in self._known}
        if not new:
            return
        make_folder(self._path.parent)
        lines = "".join(
            f"{digest} {one.pixels} {one.look or '-'} {json.dumps(one.notes)}\n" for digest, one in new.items()
        )
        try:
            with open(self._path, "a", encoding="ascii") as handle:
                handle.write(f"\n{lines}")  # the line break ends a line that a kill cut short
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._known |= new


def see_images(
    paths: Sequence[Path], cache: ContentCache, *, threads: int, progress: Progress
) -> list[Seen | ImageError]:
    """The hashes of each file, or why it can't be read. Files whose content is cached are not decoded again.

    Raises StorageError when the cache can't be written.
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
    """A line of the cache; None for one that was cut short."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    try:
        notes: list[object] = json.loads(match[4])
    except ValueError:
        return None
    return match[1], Content(match[2], match[3].strip("-"), tuple(map(str, notes)))


def hash_image(path: Path) -> str:
    """SHA-256 of an image file, in hex. Raises ImageError for what is no regular file, too large or unreadable."""
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
    """The hashes of a decoded image, uint8 [H, W, 3] BGR.

    `look` says of each of the 16 x 16 lowest frequencies of a DCT whether it is above their median.
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
    """For each look the position of the nearest of `others` within NEAR bits; -1 where there is none."""
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
    """float32 [N, 256] of -1 and 1: their products count bits."""
    packed = np.array([np.frombuffer(bytes.fromhex(look), np.uint8) for look in looks])
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def named(paths: Sequence[Path], *, most: int = 3) -> str:
    """The first paths, for a message."""
    rest = ", ..." if len(paths) > most else ""
    return ", ".join(os.fspath(path) for path in paths[:most]) + rest
