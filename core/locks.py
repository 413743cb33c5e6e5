"""Lock files: one process at a time holds an empty file, and the system releases the lock when the process dies.

The holder removes the file. After a kill it stays, and the next holder reuses it. On a network share the lock works
across hosts if the share is mounted with locks: NFS's default, not `nolock`.

Why not the filelock package: it truncates whatever file lies at the path, does not remove lock files, and with its
default mode a second user can't open the file of the first.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import LeakRTError, StorageError
from .files import storage_error
from .progress import Progress

_POLL, _PATIENT = (
    0.05,
    0.5,
)  # seconds between two tries, in the first second and after it
_REPORT = 1.0  # seconds between two reports of a waiting process
_RIGHTS = 0o666  # regardless of the umask: on NFS only a file that is open for writing can be locked
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)
_LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)
# No link is followed, no pipe blocks, and no child program inherits the lock.
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileLock:
    """A lock file that this process holds until `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def release(self) -> None:
        """Remove the file and release the lock. A file that is not empty was not made here, and stays."""
        with suppress(OSError):  # a folder in which only the owner of a file may remove it
            here, there = os.fstat(self._descriptor), os.lstat(self._path)
            if (here.st_dev, here.st_ino, here.st_size) == (there.st_dev, there.st_ino, 0):
                self._path.unlink()  # before the release: another process that locked a removed file opens it again
        _unlock(self._descriptor)
        os.close(self._descriptor)


def take(path: Path) -> FileLock | None:
    """Acquire the lock file `path`; None while it is held, in this process or another. Its folder must exist.

    Raises StorageError, also if `path` is not a plain file or the file system supports no locks.
    """
    try:
        descriptor = _open(path)
    except FileExistsError:  # made by another process at this moment
        return None
    except FileNotFoundError:
        raise storage_error(path, FileNotFoundError(errno.ENOENT, "no file can be created there")) from None
    except OSError as error:
        if path.is_symlink():
            raise StorageError(f"can't lock {path}: it is a link; remove it") from error
        raise storage_error(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StorageError(f"can't lock {path}: it is not a plain file; remove it")
        if _lock(descriptor, path) and _is_still_at(path, descriptor):
            kept, descriptor = descriptor, -1
            return FileLock(path, kept)
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return None


@contextmanager
def held(path: Path, progress: Progress, waiting: str) -> Iterator[None]:
    """Hold the lock file `path`, whose folder must exist. Waits while it is held, and reports `waiting` as progress.

    Raises StorageError.
    """
    begin, seconds = time.monotonic(), 0
    while (lock := take(path)) is None:
        time.sleep(_POLL if seconds == 0 else _PATIENT)
        if time.monotonic() - begin >= (seconds + 1) * _REPORT:
            seconds += 1
            progress(waiting, seconds, 0)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(path: Path, refusal: LeakRTError) -> Iterator[None]:
    """Hold the lock file `path`, whose folder must exist. Raises `refusal` if it is held, StorageError."""
    lock = take(path)
    if lock is None:
        raise refusal
    try:
        yield
    finally:
        lock.release()


def _open(path: Path) -> int:
    """Open the file, or create it. Returns the descriptor. Raises OSError."""
    try:
        return os.open(path, _FLAGS)  # O_CREAT on another user's file is forbidden in folders such as /tmp
    except FileNotFoundError:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _RIGHTS)
    except PermissionError:  # of another user's process that was killed before the next lines
        return os.open(path, _FLAGS & ~os.O_RDWR)
    with suppress(OSError):  # a file system without permissions
        os.fchmod(descriptor, _RIGHTS)
    return descriptor


def _is_still_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one at `path`. Its last holder may have removed it after it was opened here."""
    here = os.fstat(descriptor)  # NFS asks its server, because a lock was just acquired
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return here.st_nlink > 0 and (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _lock(descriptor: int, path: Path) -> bool:
    """Try to acquire the lock; whether that succeeded. Raises StorageError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in _LOCKLESS:
            raise storage_error(path, error) from error
        raise StorageError(
            f"can't lock {path}: its file system supports no locks ({error.strerror}); mount it with locks, or "
            "work on a local disk"
        ) from error
    return True


def _unlock(descriptor: int) -> None:
    """Release the lock explicitly: a forked child may keep the descriptor open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
