"""Fingerprints of decoded pictures: which are the same, and which are one picture re-encoded or resized."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from ..core.errors import ImageError
from ..core.files import sha256_file, storage_error
from ..core.images import MAX_FILE_BYTES, READER_VERSION, read_image
from ..core.progress import Progress

ALIKE = 20  # bits of 255 that two looks of one picture differ in at most

_GREY, _KEPT = 64, 16  # side of the grey picture, and of the low frequencies kept of it
_BITS = _KEPT * _KEPT
_LINE = re.compile(r"([0-9a-f]{64}) ([0-9a-f]{64}) ([0-9a-f]{64})")
_ROWS = 4096  # looks compared at once

Looks = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What identifies a picture, whatever file it is in."""

    pixels: str  # SHA-256 over shape and pixels, in hex
    look: str  # perceptual hash, 256 bits in hex, of which the first is always 0


def fingerprint(pixels: npt.NDArray[np.uint8]) -> Fingerprint:
    """The fingerprint of pixels uint8 [H, W, 3] BGR.

    The look holds the signs of the 255 lowest frequencies about their median, of the picture as 64 x 64 grey values
    (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010; there 64 bits).
    """
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), (_GREY, _GREY), interpolation=cv2.INTER_AREA)
    low = cv2.dct(grey.astype(np.float32))[:_KEPT, :_KEPT].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean: brightness, not content
    return Fingerprint(pixels=digest.hexdigest(), look=np.packbits(bits).tobytes().hex())


def looks(found: Iterable[Fingerprint]) -> Looks:
    """The looks as uint8 [N, 32]."""
    data = b"".join(bytes.fromhex(each.look) for each in found)
    return np.frombuffer(data, np.uint8).reshape(-1, _BITS // 8)


def nearest(first: Looks, second: Looks) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each of N looks the nearest of M others and its distance in bits: two int64 [N]. M is at least 1."""
    others = np.unpackbits(second, axis=1).astype(np.float32)
    ones = others.sum(axis=1)
    indices, distances = [], []
    for start in range(0, len(first), _ROWS):
        bits = np.unpackbits(first[start : start + _ROWS], axis=1).astype(np.float32)
        apart = bits.sum(axis=1)[:, None] + ones - 2 * bits @ others.T
        indices.append(apart.argmin(axis=1))
        distances.append(apart.min(axis=1).astype(np.int64))
    empty = np.empty(0, np.int64)
    return np.concatenate([empty, *indices]), np.concatenate([empty, *distances])


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


def count_different(found: Sequence[Fingerprint]) -> int:
    """How many different pictures there are: each that is alike to one counted before it counts with that one."""
    counted: list[Fingerprint] = []
    for each in found:
        if not counted or nearest(looks([each]), looks(counted))[1][0] > ALIKE:
            counted.append(each)
    return len(counted)


class FingerprintCache:
    """Fingerprints by the hash of their file, in one text file that is only appended to.

    A line that a kill left unfinished is ignored. Several processes may append at once.
    """

    def __init__(self, root: Path) -> None:
        """Read the cache in the folder `root`, if there is one. Raises StorageError."""
        self._path = root / f"fingerprints-reader{READER_VERSION}.txt"
        self._known: dict[str, Fingerprint] = {}
        try:
            text = self._path.read_text("ascii", "replace") if self._path.is_file() else ""
        except OSError as error:
            raise storage_error(self._path, error) from error
        for match in map(_LINE.fullmatch, text.split("\n")):
            if match:
                self._known[match[1]] = Fingerprint(pixels=match[2], look=match[3])

    def get(self, digest: str) -> Fingerprint | None:
        """The fingerprint of a file's hash, if it is known."""
        return self._known.get(digest)

    def add(self, found: dict[str, Fingerprint]) -> None:
        """Keep new fingerprints by the hash of their file. Raises StorageError."""
        new = {digest: each for digest, each in found.items() if digest not in self._known}
        if not new:
            return
        lines = "".join(f"\n{digest} {each.pixels} {each.look}" for digest, each in new.items())
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            with os.fdopen(descriptor, "ab") as handle:
                handle.write(f"{lines}\n".encode("ascii"))
        except OSError as error:
            raise storage_error(self._path, error) from error
        self._known.update(new)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A file's hash, and the fingerprint of what it shows."""

    digest: str  # SHA-256 of the file, in hex
    fingerprint: Fingerprint


def identify(
    paths: Sequence[Path],
    cache: FingerprintCache,
    threads: int,
    progress: Progress,
    *,
    known: Callable[[str], bool] = lambda digest: True,
) -> list[Identity | ImageError]:
    """Hash every file, and read those whose fingerprint is not cached or whose hash is not `known` to be readable.

    An image that can't be read gives its error. Raises StorageError.
    """

    def one(path: Path) -> Identity | ImageError:
        try:
            digest = hash_image(path)
            found = cache.get(digest)
            if found is None or not known(digest):
                found = fingerprint(read_image(path).pixels)
                if hash_image(path) != digest:  # read between two equal hashes: what was read is what is kept
                    raise ImageError(f"{path}: the file changed while it was read; run the command again")
            return Identity(digest=digest, fingerprint=found)
        except ImageError as error:
            return error

    results = []
    with ThreadPoolExecutor(threads) as pool:
        for done, result in enumerate(pool.map(one, paths), 1):
            results.append(result)
            progress("reading images", done, len(paths))
    cache.add({each.digest: each.fingerprint for each in results if isinstance(each, Identity)})
    return results
