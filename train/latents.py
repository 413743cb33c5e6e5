"""The latent cache. Each view of an image is encoded once and shared by all runs with the same VAE.

There is one folder per VAE and version of the image reader. It is named by the VAE's fingerprint, which covers scale,
image size and preprocess version.

    latents.bin   float32 records [4, S/8, S/8], one after the other
    index.txt     one line per record: SHA-256 of the image file, two digits of the view, CRC-32 of the record

A record is valid once its line is complete, and the line is written after the record has reached the disk. An
interruption therefore loses at most the records in flight; the next writer truncates incomplete ones. A record that
does not match its CRC is encoded again.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import _core
from ..core.errors import DataError, ModelError, StorageError
from ..core.files import storage_error
from ..core.images import READER_VERSION, read_image
from ..core.locks import held
from ..core.progress import Progress, silent
from .data import hash_image
from .vae import VaeEncoder

VIEW_COUNTS = {"plain": 1, "flip": 2, "dihedral": 8}

Array = npt.NDArray[np.float32]
Key = tuple[str, int]  # hash, view
Encoded = tuple[Key, Array]
_LINE = re.compile(rb"([0-9a-f]{64}) ([0-9]{2}) ([0-9a-f]{8})\n")
_LINE_BYTES = 64 + 1 + 2 + 1 + 8 + 1
_FLUSH_SECONDS, _FLUSH_RECORDS = 2.0, 512  # between two writes; the most that an interruption loses
_CHUNK = 256  # images read at once when all are read
_WAITING = "wait for another process that writes this cache"


@dataclass(frozen=True)
class LatentRequest:
    """An image file and its required views."""

    path: Path
    digest: str  # SHA-256 of the file, in hex
    views: tuple[int, ...]


class LatentTable:
    """Latents of N images in V views, read from the memory map on demand."""

    def __init__(self, records: Array, rows: npt.NDArray[np.int64]) -> None:
        """`records` is float32 [R, 4, S/8, S/8]. `rows` int64 [N, V] holds the record index of each image and view."""
        self._records, self._rows = records, rows

    @classmethod
    def of(cls, latents: Array) -> LatentTable:
        """Return a table of latents in memory, float32 [N, V, 4, S/8, S/8]."""
        images, views = latents.shape[:2]
        rows = np.arange(images * views, dtype=np.int64).reshape(images, views)
        return cls(latents.reshape(-1, *latents.shape[2:]), rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def views(self) -> int:
        """The number of views V."""
        return int(self._rows.shape[1])

    def take(self, images: npt.NDArray[np.int64], views: npt.NDArray[np.int64]) -> Array:
        """Return copies of one view of each of B images, float32 [B, 4, S/8, S/8]."""
        return np.ascontiguousarray(self._records[self._rows[images, views]])

    def plain(self) -> Array:
        """Return the first view of every image, float32 [N, 4, S/8, S/8]."""
        return np.ascontiguousarray(self._records[self._rows[:, 0]])

    def std(self) -> float:
        """Return the standard deviation over all values of every image's first view, summed in float64."""
        count, total, squares = 0, 0.0, 0.0
        for start in range(0, len(self), _CHUNK):
            values = self._records[self._rows[start : start + _CHUNK, 0]].astype(np.float64)
            count, total, squares = count + values.size, total + values.sum(), squares + (values**2).sum()
        return float(np.sqrt(max(squares / count - (total / count) ** 2, 0.0)))


class LatentCache:
    """Latents of one VAE on disk, mapped into memory. Several processes can read while one writes."""

    def __init__(self, root: Path, fingerprint: str, latent_shape: tuple[int, int, int]) -> None:
        """Open or create the cache of a VAE. Raises StorageError."""
        self._folder = root / f"{fingerprint[:24]}-reader{READER_VERSION}"
        self._shape = latent_shape
        self._record_bytes = 4 * int(np.prod(latent_shape))
        self._data, self._index = self._folder / "latents.bin", self._folder / "index.txt"
        self._rows: dict[Key, tuple[int, int]] = {}  # row and CRC
        self._count = 0  # rows read so far; a damaged line has a row but no key
        self._intact: set[Key] = set()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._data.touch()
            self._index.touch()
            self.refresh()
        except OSError as error:
            raise storage_error(self._folder, error) from error

    def refresh(self) -> None:
        """Read the records that other processes added. Raises OSError."""
        with open(self._index, "rb") as handle:
            handle.seek(self._count * _LINE_BYTES)
            lines = handle.read()
        whole = min(self._count + len(lines) // _LINE_BYTES, self._data.stat().st_size // self._record_bytes)
        for row in range(self._count, whole):
            match = _LINE.match(lines, (row - self._count) * _LINE_BYTES)
            if match:
                digest, view, crc = match.groups()
                self._rows[digest.decode(), int(view)] = row, int(crc, 16)
        self._count = max(self._count, whole)

    def has_image(self, digest: str) -> bool:
        """Whether the plain view of an image file is cached."""
        return (digest, 0) in self._rows

    def missing(self, wanted: Iterable[LatentRequest]) -> list[LatentRequest]:
        """Return each distinct image with its missing or damaged views; images without any are omitted."""
        needed: dict[str, LatentRequest] = {}
        records = self._map()
        for image in wanted:
            views = {v for v in image.views if not self._is_intact(records, (image.digest, v))}
            if image.digest in needed:
                views |= set(needed[image.digest].views)
            if views:
                needed[image.digest] = LatentRequest(image.path, image.digest, tuple(sorted(views)))
        return list(needed.values())

    def fill(
        self,
        vae: VaeEncoder,
        wanted: Sequence[LatentRequest],
        threads: int,
        *,
        progress: Progress = silent,
        task: str = "encoding images",
    ) -> None:
        """Encode missing views on `threads` threads. A failure loses at most the last two seconds of work.

        Waits while another process writes the same cache. Raises ImageError, DataError for an image that changed since
        it was hashed, ModelError, StorageError.
        """
        if not self.missing(wanted):
            return
        with held(self._folder / "lock", progress, _WAITING):
            self.refresh()
            missing = self.missing(wanted)
            total, done = sum(len(image.views) for image in missing), 0
            for pairs in _flushes(_encode_all(vae, missing, threads)):
                self._append(pairs)
                done += len(pairs)
                progress(task, done, total)

    def table(self, digests: Sequence[str], views: Sequence[int]) -> LatentTable:
        """Return the latents of N images in V views, backed by the memory map. Raises KeyError for a missing one."""
        rows = [[self._rows[digest, view][0] for view in views] for digest in digests]
        return LatentTable(self._map(), np.array(rows, np.int64).reshape(len(digests), len(views)))

    def read(self, digests: Sequence[str], views: Sequence[int]) -> Array:
        """Return copied latents of N images in V views, float32 [N, V, 4, S/8, S/8]. Raises KeyError."""
        rows = [self._rows[digest, view][0] for digest in digests for view in views]
        return np.asarray(self._map()[rows]).reshape(len(digests), len(views), *self._shape)

    def remove(self) -> None:
        """Delete the cache from disk, ignoring errors. Existing tables stay valid."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _map(self) -> Array:
        if self._count == 0:  # an empty file can't be mapped
            return np.empty((0, *self._shape), np.float32)
        try:
            return np.memmap(self._data, "<f4", "r", shape=(self._count, *self._shape))
        except OSError as error:
            raise storage_error(self._data, error) from error
        except ValueError as error:  # the file is shorter than its index says
            raise StorageError(f"{self._data} was truncated while in use; run the command again") from error

    def _is_intact(self, records: Array, key: Key) -> bool:
        """Whether a record is cached and intact. Its CRC is checked once per object."""
        if key in self._intact:
            return True
        row, crc = self._rows.get(key, (-1, 0))
        if row < 0 or zlib.crc32(np.ascontiguousarray(records[row]).data) != crc:
            return False
        self._intact.add(key)
        return True

    def _append(self, pairs: Sequence[Encoded]) -> None:
        """Append records, then their lines, after the last row. The caller holds the lock and has refreshed."""
        data = [np.ascontiguousarray(latent, "<f4").tobytes() for _, latent in pairs]
        lines = [
            f"{digest} {view:02d} {zlib.crc32(record):08x}\n"
            for ((digest, view), _), record in zip(pairs, data, strict=True)
        ]
        try:
            _write_at(self._data, self._count * self._record_bytes, b"".join(data))
            _write_at(self._index, self._count * _LINE_BYTES, "".join(lines).encode())
            self.refresh()
        except OSError as error:
            raise storage_error(self._folder, error) from error
        if any(key not in self._rows for key, _ in pairs):
            raise StorageError(f"{self._folder} can't be extended; remove that folder and run the command again")


def apply_view(image: Array, view: int) -> Array:
    """Return one of the eight views of a preprocessed image [3, S, S].

    Bit 0 mirrors it, bits 1 and 2 count rotations by 90 degrees. No view moves the 8-pixel grid of JPEG or of the VAE.
    """
    turned = np.rot90(image, view >> 1, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if view & 1 else turned)


def _write_at(path: Path, offset: int, data: bytes) -> None:
    """Truncate the file at `offset`, append `data` and sync to disk."""
    with open(path, "r+b") as handle:
        handle.truncate(offset)
        handle.seek(offset)
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _encode_all(vae: VaeEncoder, missing: Iterable[LatentRequest], threads: int) -> Iterator[list[Encoded]]:
    """Yield the latents of each image in order, encoding a few images ahead."""
    running: deque[Future[list[Encoded]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for image in missing:
            running.append(pool.submit(_encode, vae, image))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _encode(vae: VaeEncoder, image: LatentRequest) -> list[Encoded]:
    size = vae.description.image_size
    square = np.empty((3, size, size), np.float32)
    _core.preprocess(read_image(image.path).pixels, square, threads=1)
    if hash_image(image.path) != image.digest:  # hash after reading, so that the latent matches the digest
        raise DataError(f"{image.path} changed while in use; run the command again")
    latents = vae.encode(np.stack([apply_view(square, view) for view in image.views]))
    if not np.isfinite(latents).all():
        name = f"{vae.description.kind}:{vae.description.source}"
        raise ModelError(f"{name} gives latents that are not finite for {image.path}; use another VAE or its float32")
    return [((image.digest, view), latent) for view, latent in zip(image.views, latents, strict=True)]


def _flushes(encoded: Iterable[list[Encoded]]) -> Iterator[list[Encoded]]:
    """Group latents into writes by time and number of records."""
    pairs: list[Encoded] = []
    begin = time.monotonic()
    for more in encoded:
        pairs += more
        if len(pairs) >= _FLUSH_RECORDS or time.monotonic() - begin >= _FLUSH_SECONDS:
            yield pairs
            pairs, begin = [], time.monotonic()
    if pairs:
        yield pairs
