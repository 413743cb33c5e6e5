"""One process at a time: an empty lock file, which the system lets go of when its holder dies.

Its holder removes it, so a kill leaves one at most, which the next holder takes over. On a network share it keeps hosts
apart where the share is mounted with its locks: NFS's default, not `nolock`.
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

_POLL, _PATIENT = 0.05, 0.5  # seconds between two tries, in the first second and after it: a share is asked each time
_TELL = 1.0  # seconds between two words to who waits
_RIGHTS = 0o666  # whatever the umask: on NFS a lock needs a file that is open for writing, and this one stays empty
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK)
_LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)
# A link is not followed, a pipe is not waited for, a program that is started does not inherit the lock.
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class FileLock:
    """A lock file that this process holds until `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def release(self) -> None:
        """Remove the file and let go of it. A file that is not empty is none of ours, and stays."""
        with suppress(OSError):  # a folder where only a file's owner may remove it
            here, there = os.fstat(self._descriptor), os.lstat(self._path)
            if (here.st_dev, here.st_ino, here.st_size) == (there.st_dev, there.st_ino, 0):
                self._path.unlink()  # before the lock goes: who takes it of a file that is gone takes it anew
        _unlock(self._descriptor)
        os.close(self._descriptor)


def take(path: Path) -> FileLock | None:
    """The lock of the file `path`, or None while another holds it, in this process too. Its folder must be there.

    Raises StorageError, also where something else stands at `path` and where the file system keeps no locks.
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
            raise StorageError(f"can't lock {path}: it is no plain file; remove it")
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
    """Hold the lock file `path`; its folder must be there. While another holds it, tell of `waiting`, and wait.

    Raises StorageError.
    """
    begin, seconds = time.monotonic(), 0
    while (lock := take(path)) is None:
        time.sleep(_POLL if seconds == 0 else _PATIENT)
        if time.monotonic() - begin >= (seconds + 1) * _TELL:
            seconds += 1
            progress(waiting, seconds, 0)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def alone(path: Path, refusal: LeakRTError) -> Iterator[None]:
    """Hold the lock file `path`; its folder must be there. Raises `refusal` while another holds it, StorageError."""
    lock = take(path)
    if lock is None:
        raise refusal
    try:
        yield
    finally:
        lock.release()


def _open(path: Path) -> int:
    """A descriptor of the file, which is made where it is missing. Raises OSError."""
    try:
        return os.open(path, _FLAGS)  # O_CREAT on another user's file is forbidden in folders such as /tmp
    except FileNotFoundError:
        descriptor = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, _RIGHTS)
    except PermissionError:  # another user's that was killed before the next lines
        return os.open(path, _FLAGS & ~os.O_RDWR)
    with suppress(OSError):  # a file system without rights
        os.fchmod(descriptor, _RIGHTS)
    return descriptor


def _is_still_at(path: Path, descriptor: int) -> bool:
    """Whether the file is the one at `path`: its last holder may have removed it after it was opened here."""
    here = os.fstat(descriptor)  # a lock that was just taken has NFS ask its server for this
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    return here.st_nlink > 0 and (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _lock(descriptor: int, path: Path) -> bool:
    """Whether the lock was free and is held now. Raises StorageError."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno not in _LOCKLESS:
            raise storage_error(path, error) from error
        raise StorageError(
            f"can't lock {path}: its file system keeps no locks ({error.strerror}); mount it with them, or work "
            "on a local disk"
        ) from error
    return True


def _unlock(descriptor: int) -> None:
    """Let go: a forked child may keep the descriptor open."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
