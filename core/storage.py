"""Storage of a bundle's files: a folder or one uncompressed zip."""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from .errors import BundleError
from .files import atomic_folder, atomic_produce, open_regular

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip, so that equal contents give equal bytes
# zipfile raises any of these for damaged files: unknown version or method, encrypted entry, invalid date
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError, OSError)


class Storage(Protocol):
    """The flat files of a bundle."""

    def sizes(self) -> dict[str, int]:
        """Return the size of each file in bytes."""

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of one file. Raises BundleError if there are more than `limit`."""


class FolderStorage:
    """A bundle that is a folder. Sub-folders and links are rejected."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sizes(self) -> dict[str, int]:
        """Return the size of each file in bytes. Raises BundleError for anything but plain files."""
        sizes = {}
        try:
            for entry in self._path.iterdir():
                if entry.is_symlink() or not entry.is_file():
                    raise BundleError(f"{self._path}: {entry.name} is not a plain file; remove it")
                sizes[entry.name] = entry.stat().st_size
        except OSError as error:
            raise _unreadable(self._path, "the folder", error) from error
        return sizes

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of one file. Raises BundleError if there are more than `limit`."""
        try:
            with open_regular(self._path / name) as handle:
                data = handle.read(limit + 1)
        except OSError as error:
            raise _unreadable(self._path, name, error) from error
        return _within(data, name, limit)


class ZipStorage:
    """A bundle that is one zip. Its entries are not compressed, so the stated sizes are the real ones."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def sizes(self) -> dict[str, int]:
        """Return the size of each file in bytes. Raises BundleError for compressed, encrypted or duplicate entries."""
        sizes: dict[str, int] = {}
        try:
            with zipfile.ZipFile(self._path) as archive:
                entries = archive.infolist()
        except _ZIP_ERRORS as error:
            raise BundleError(f"{self._path} is not a bundle: neither a folder nor a complete zip ({error})") from error
        for entry in entries:
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.filename in sizes:
                raise BundleError(f"{self._path}: entry {entry.filename} is compressed, encrypted or a duplicate")
            sizes[entry.filename] = entry.file_size
        return sizes

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of one entry. Raises BundleError if there are more than `limit`."""
        try:
            with zipfile.ZipFile(self._path) as archive, archive.open(name) as handle:
                data = handle.read(limit + 1)
        except (*_ZIP_ERRORS, KeyError) as error:
            raise _unreadable(self._path, name, error) from error
        return _within(data, name, limit)


def open_storage(path: Path) -> Storage:
    """Return the storage at `path`. Raises BundleError if the path does not exist."""
    if path.is_dir():
        return FolderStorage(path)
    if path.is_file():
        return ZipStorage(path)
    raise BundleError(f"no bundle at {path}; make one with: leakrt export RUN --out {shlex.quote(str(path))}")


def write_files(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a bundle's files atomically: a zip if `path` ends in .zip, else a folder. Raises StorageError."""
    if path.suffix == ".zip":
        atomic_produce(path, lambda target: _write_zip(target, files))
        return
    with atomic_folder(path) as folder:
        for name, data in files.items():
            (folder / name).write_bytes(data)


def _write_zip(target: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)


def _unreadable(path: Path, name: str, error: Exception) -> BundleError:
    return BundleError(f"{path}: {name} can't be read ({error}); copy the bundle again")


def _within(data: bytes, name: str, limit: int) -> bytes:
    if len(data) > limit:
        raise BundleError(f"{name} is larger than the allowed {limit} bytes; export the bundle again")
    return data
