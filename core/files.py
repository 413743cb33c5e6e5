"""Safe writing: every file and folder is written to a temporary name beside its target and renamed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import hashlib
import logging
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import StorageError

_log = logging.getLogger(__name__)

_CHUNK = 1 << 20
_HERE, _RENAME_EXCHANGE = -100, 2  # AT_FDCWD, and a flag of renameat2(2), from Linux's fcntl.h and fs.h


def storage_error(path: Path, error: OSError) -> StorageError:
    """The StorageError for an OSError while writing `path`, with what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"no space left while writing {path}; free some space and run the command again")
    if error.errno == errno.EFBIG:
        return StorageError(f"can't write {path}: the limit on the size of a file is reached; raise it (ulimit -f)")
    reason = error.strerror or str(error)
    return StorageError(f"can't write {path}: {reason}; check the path and its permissions")


def make_folder(path: Path) -> None:
    """Create a folder and its parents, if they do not exist. Raises StorageError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(path, error) from error


def atomic_write(path: Path, data: bytes) -> None:
    """Replace the file `path` by `data` atomically; on failure the old file is kept.

    Raises StorageError (disk full, no permission, no such parent).
    """

    def write(target: Path) -> None:
        target.write_bytes(data)

    atomic_produce(path, write)


def atomic_write_owned(path: Path, data: bytes) -> None:
    """`atomic_write` of a file that only its owner may write, also with a umask of 002."""

    def write(target: Path) -> None:
        target.write_bytes(data)
        target.chmod(0o644)

    atomic_produce(path, write)


def atomic_produce(path: Path, produce: Callable[[Path], None]) -> None:
    """Let `produce` write a temporary file, flush it to disk and rename it to `path`.

    Raises StorageError for every OSError; the temporary file is removed on any failure.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        produce(temporary)
        with open(temporary, "rb+") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # a parent that is no folder; the error above says so
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it replaces `path`, on failure `path` is not changed.

    If `path` is a link, its target is replaced. Raises StorageError for every OSError.
    """
    path = path.resolve()  # `.` has no name, and a link must stay
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise storage_error(path, error) from error
    try:
        temporary.chmod(0o755)
        yield temporary
        _swap(temporary, path)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap(new: Path, path: Path) -> None:
    """Rename `new` to `path`. An old `path` is removed, or gets the name `new`, which the caller removes."""
    if not path.exists():
        os.replace(new, path)
        return
    if _exchange(new, path):
        if new.is_file():
            new.unlink()
        return
    aside = path.with_name(
        f".{path.name}.{os.getpid()}.old"
    )  # `recover` restores it after a kill before the next rename
    os.replace(path, aside)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(aside, path)
        raise
    _remove(aside)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two paths atomically, so that readers always find one (Linux, renameat2(2)); False if unsupported."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    names = os.fsencode(first), os.fsencode(second)
    return rename is not None and rename(_HERE, names[0], _HERE, names[1], _RENAME_EXCHANGE) == 0


def recover(path: Path) -> None:
    """Clean up after a killed writer of `path`: restore what it had set aside, and remove its temporary files.

    Logs what it did. Call it only while holding a lock that every writer of `path` acquires.
    """
    name = glob.escape(path.name)
    with contextlib.suppress(OSError):  # a folder that can't be written holds no leftovers
        for aside in path.parent.glob(f".{name}.*.old"):
            if path.exists():
                _remove(aside)
            else:
                os.replace(aside, path)
                _log.warning("restored %s after an interrupted write", path)
        for part in path.parent.glob(f".{name}.*.part"):
            _remove(part)
            _log.warning("removed %s, the leftover of an interrupted write", part)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def cache_folder() -> Path:
    """The cache folder: $XDG_CACHE_HOME/leakrt, or ~/.cache/leakrt. It is not created here."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification says to ignore relative paths.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "leakrt"


def open_regular(path: Path) -> BinaryIO:
    """Open an untrusted file for reading. Raises OSError, also for a pipe or a device, which may never end."""
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of an untrusted file, at most `limit`.

    Raises OSError, also for a larger file and for a pipe or device; its `strerror` gives the reason.
    """
    with open_regular(path) as handle:
        data = handle.read(limit + 1)
    if len(data) > limit:
        most = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit} bytes"
        raise OSError(errno.EFBIG, f"it has more than {most}", str(path))
    return data


def sha256_bytes(data: bytes | memoryview) -> str:
    """SHA-256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hex, read in pieces of 1 MiB. Raises OSError."""
    digest = hashlib.sha256()
    with open_regular(path) as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
