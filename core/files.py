"""Writing without loss: everything goes to a temporary name beside its target and is renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import StorageError

_CHUNK = 1 << 20


def storage_error(path: Path, error: OSError) -> StorageError:
    """Turn an OSError met while writing `path` into one line that says what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"no space left while writing {path}; free some space and run the command again")
    reason = error.strerror or str(error)
    return StorageError(f"can't write {path}: {reason}; check the path and its permissions")


def atomic_write(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step; what stood there stays whole if anything fails.

    Raises StorageError (disk full, no permission, no such parent).
    """

    def write(target: Path) -> None:
        target.write_bytes(data)

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
    """Give a temporary folder beside `path`; on success it takes that name, replacing what stood there.

    Raises StorageError for every OSError; on any failure `path` is as it was.
    """
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
    """Rename `new` to `path`. A folder can't be replaced in one rename, so the old one steps aside first."""
    if not path.exists():
        os.replace(new, path)
        return
    aside = path.with_name(f".{path.name}.{os.getpid()}.old")
    os.replace(path, aside)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(aside, path)
        raise
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink()


def cache_folder() -> Path:
    """Where LeakRT keeps what it can make again: $XDG_CACHE_HOME/leakrt, or ~/.cache/leakrt. Not made here."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "leakrt"


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a file from outside, never more than `limit` of them in memory.

    Raises OSError, also for a file that has more: its `strerror` says so.
    """
    with open(path, "rb") as handle:
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
    with open(path, "rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
