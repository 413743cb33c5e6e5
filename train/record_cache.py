"""A cache of what is computed from image files: one record of fixed size per image and view, mapped into memory.

    records.bin   the records, one after the other
    index.txt     one line per record: SHA-256 of the image file, two digits of the view, CRC-32 of the record

A record is valid once its line is complete, and the line is written after the record has reached the disk. An
interruption therefore loses at most the records in flight; the next writer truncates incomplete ones. A record that
does not match its CRC is computed again.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import StorageError
from ..core.files import storage_error
from ..core.locks import held
from ..core.progress import Progress

Records = npt.NDArray[Any]
Key = tuple[str, int]  # hash, view
Computed = tuple[Key, Records]
_LINE = re.compile(rb"([0-9a-f]{64}) ([0-9]{2}) ([0-9a-f]{8})\n")
_LINE_BYTES = 64 + 1 + 2 + 1 + 8 + 1
_FLUSH_SECONDS, _FLUSH_BYTES = 2.0, 16 << 20  # between two writes; the most that an interruption loses
_CHUNK = 256  # images read at once when all are read
_WAITING = "wait for another process that writes this cache"


@dataclass(frozen=True)
class ImageRequest:
    """An image file and its required views."""

    path: Path
    digest: str  # SHA-256 of the file, in hex
    views: tuple[int, ...]


Compute = Callable[[ImageRequest], list[Computed]]


class RecordTable:
    """Records of N images in V views, read from the memory map on demand."""

    def __init__(self, records: Records, rows: npt.NDArray[np.int64]) -> None:
        """`rows` int64 [N, V] holds the index into `records` of each image and view."""
        self._records, self._rows = records, rows

    @classmethod
    def of(cls, records: Records) -> RecordTable:
        """Return a table of records in memory, [N, V, ...]."""
        images, views = records.shape[:2]
        rows = np.arange(images * views, dtype=np.int64).reshape(images, views)
        return cls(records.reshape(-1, *records.shape[2:]), rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def views(self) -> int:
        """The number of views V."""
        return int(self._rows.shape[1])

    def take(self, images: npt.NDArray[np.int64], views: npt.NDArray[np.int64]) -> Records:
        """Return copies of one view of each of B images, [B, ...]."""
        return np.ascontiguousarray(self._records[self._rows[images, views]])

    def plain(self) -> Records:
        """Return the first view of every image, [N, ...]."""
        return np.ascontiguousarray(self._records[self._rows[:, 0]])

    def std(self) -> float:
        """Return the standard deviation over all values of every image's first view, summed in float64."""
        count, total, squares = 0, 0.0, 0.0
        for start in range(0, len(self), _CHUNK):
            values = self._records[self._rows[start : start + _CHUNK, 0]].astype(np.float64)
            count, total, squares = count + values.size, total + values.sum(), squares + (values**2).sum()
        return float(np.sqrt(max(squares / count - (total / count) ** 2, 0.0)))


class RecordCache:
    """Records on disk, mapped into memory. Several processes can read while one writes."""

    def __init__(self, folder: Path, name: str, *, dtype: str, shape: tuple[int, ...]) -> None:
        """Open or create the cache in `folder`; its records are in the file NAME.bin. Raises StorageError."""
        self._folder, self._dtype, self._shape = folder, np.dtype(dtype), shape
        self._record_bytes = self._dtype.itemsize * int(np.prod(shape))
        self._data, self._index = folder / f"{name}.bin", folder / "index.txt"
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

    def missing(self, wanted: Iterable[ImageRequest]) -> list[ImageRequest]:
        """Return each distinct image with its missing or damaged views; images without any are omitted."""
        needed: dict[str, ImageRequest] = {}
        records = self._map()
        for image in wanted:
            views = {v for v in image.views if not self._is_intact(records, (image.digest, v))}
            if image.digest in needed:
                views |= set(needed[image.digest].views)
            if views:
                needed[image.digest] = ImageRequest(image.path, image.digest, tuple(sorted(views)))
        return list(needed.values())

    def compute(
        self, compute: Compute, wanted: Sequence[ImageRequest], threads: int, *, progress: Progress, task: str
    ) -> None:
        """Compute missing views on `threads` threads. A failure loses at most the last two seconds of work.

        Waits while another process writes the same cache. Raises StorageError and what `compute` raises.
        """
        if not self.missing(wanted):
            return
        with held(self._folder / "lock", progress, _WAITING):
            self.refresh()
            missing = self.missing(wanted)
            total, done = sum(len(image.views) for image in missing), 0
            for pairs in _flushes(_compute_all(compute, missing, threads), self._record_bytes):
                self._append(pairs)
                done += len(pairs)
                progress(task, done, total)

    def table(self, digests: Sequence[str], views: Sequence[int]) -> RecordTable:
        """Return the records of N images in V views, backed by the memory map. Raises KeyError for a missing one."""
        rows = [[self._rows[digest, view][0] for view in views] for digest in digests]
        return RecordTable(self._map(), np.array(rows, np.int64).reshape(len(digests), len(views)))

    def read(self, digests: Sequence[str], views: Sequence[int]) -> Records:
        """Return copied records of N images in V views, [N, V, ...]. Raises KeyError."""
        rows = [self._rows[digest, view][0] for digest in digests for view in views]
        return np.asarray(self._map()[rows]).reshape(len(digests), len(views), *self._shape)

    def remove(self) -> None:
        """Delete the cache from disk, ignoring errors. Existing tables stay valid."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _map(self) -> Records:
        if self._count == 0:  # an empty file can't be mapped
            return np.empty((0, *self._shape), self._dtype)
        try:
            return np.memmap(self._data, self._dtype, "r", shape=(self._count, *self._shape))
        except OSError as error:
            raise storage_error(self._data, error) from error
        except ValueError as error:  # the file is shorter than its index says
            raise StorageError(f"{self._data} was truncated while in use; run the command again") from error

    def _is_intact(self, records: Records, key: Key) -> bool:
        """Whether a record is cached and intact. Its CRC is checked once per object."""
        if key in self._intact:
            return True
        row, crc = self._rows.get(key, (-1, 0))
        if row < 0 or zlib.crc32(np.ascontiguousarray(records[row]).data) != crc:
            return False
        self._intact.add(key)
        return True

    def _append(self, pairs: Sequence[Computed]) -> None:
        """Append records, then their lines, after the last row. The caller holds the lock and has refreshed."""
        data = [np.ascontiguousarray(record, self._dtype).tobytes() for _, record in pairs]
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


def _write_at(path: Path, offset: int, data: bytes) -> None:
    """Truncate the file at `offset`, append `data` and sync to disk."""
    with open(path, "r+b") as handle:
        handle.truncate(offset)
        handle.seek(offset)
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def _compute_all(compute: Compute, missing: Iterable[ImageRequest], threads: int) -> Iterator[list[Computed]]:
    """Yield the records of each image in order, computing a few images ahead."""
    running: deque[Future[list[Computed]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for image in missing:
            running.append(pool.submit(compute, image))
            if len(running) > 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _flushes(computed: Iterable[list[Computed]], record_bytes: int) -> Iterator[list[Computed]]:
    """Group records into writes by time and size."""
    pairs: list[Computed] = []
    begin = time.monotonic()
    for more in computed:
        pairs += more
        if len(pairs) * record_bytes >= _FLUSH_BYTES or time.monotonic() - begin >= _FLUSH_SECONDS:
            yield pairs
            pairs, begin = [], time.monotonic()
    if pairs:
        yield pairs
