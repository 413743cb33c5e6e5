"""One process at a time: a lock file, which the system lets go of when its holder dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import require
from .files import storage_error
from .progress import Progress


@contextmanager
def held(path: Path, extra: str, progress: Progress, waiting: str) -> Iterator[None]:
    """Hold the lock file `path`; its folder must be there. While another process holds it, tell of `waiting`, and wait.

    `extra` is the one that brings filelock to who asks. Raises MissingExtraError, StorageError.
    """
    filelock = require("filelock", extra)
    lock = filelock.FileLock(str(path))
    seconds = 0
    while not lock.is_locked:
        try:
            lock.acquire(timeout=1.0)
        except filelock.Timeout:
            seconds += 1
            progress(waiting, seconds, 0)
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            reason = error if isinstance(error, OSError) else OSError(str(error))
            raise storage_error(path, reason) from error
    try:
        yield
    finally:
        lock.release()
