"""Latents of many images in a file of no name, which goes with its object.

Read row by row and not mapped: what is read through a map counts as resident memory until the system wants it back.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import StorageError
from ..core.files import storage_error

Array = npt.NDArray[np.float32]


class LatentFile:
    """N latents float32 [4, S/8, S/8] in the order in which they were appended."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """`shape` of one latent. Raises StorageError."""
        self._shape, self._bytes, self._count = shape, 4 * int(np.prod(shape)), 0
        try:
            self._descriptor, name = tempfile.mkstemp(prefix="leakrt-latents-")
            weakref.finalize(self, os.close, self._descriptor)
            Path(name).unlink()
        except OSError as error:
            raise storage_error(Path(tempfile.gettempdir()), error) from error

    def __len__(self) -> int:
        return self._count

    def append(self, latent: Array) -> None:
        """Write one latent behind the others. Raises StorageError."""
        data = np.ascontiguousarray(latent, "<f4").reshape(self._shape).tobytes()
        try:
            written = os.pwrite(self._descriptor, data, self._count * self._bytes)
        except OSError as error:
            raise storage_error(Path(tempfile.gettempdir()), error) from error
        if written != len(data):
            raise StorageError(f"no space left for latents in {tempfile.gettempdir()}; free some, or set TMPDIR")
        self._count += 1

    def read(self, rows: Iterable[int]) -> Array:
        """Copies float32 [B, 4, S/8, S/8] of B latents. Raises IndexError, StorageError."""
        found = [self._row(int(row)) for row in rows]
        return np.stack(found) if found else np.empty((0, *self._shape), np.float32)

    def _row(self, row: int) -> Array:
        if not 0 <= row < self._count:
            raise IndexError(f"latent {row} of {self._count}")
        try:
            data = os.pread(self._descriptor, self._bytes, row * self._bytes)
        except OSError as error:
            raise storage_error(Path(tempfile.gettempdir()), error) from error
        return np.frombuffer(data, "<f4").reshape(self._shape).astype(np.float32, copy=False)
