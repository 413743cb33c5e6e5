"""Exclusive access of writers: a command that adds a variant reads the whole bundle and writes it minutes later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .errors import StorageError
from .files import recover
from .locks import held
from .progress import Progress, silent
from .storage import open_storage


@contextmanager
def changing(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock of the bundle at `path`; open the bundle inside. Waits for another writer, and cleans up after one
    that was killed.

    The lock file is `.NAME.lock` beside the bundle, so it works across users and across hosts that share the folder.
    Raises BundleError if there is no bundle, StorageError if nothing can be written beside it.
    """
    path = path.resolve()
    with ExitStack() as stack:
        try:
            lock = path.with_name(f".{path.name}.lock")
            stack.enter_context(held(lock, progress, f"waiting for another process that changes {path.name}"))
        except StorageError:
            open_storage(path)
            raise
        recover(path)
        yield


@contextmanager
def rewriting(folder: Path, lock: str, names: Iterable[str]) -> Iterator[None]:
    """Hold the lock file `lock` of a folder while writing its files `names`, after cleaning up after killed writers.

    Without locks on the file system nothing is removed, because the temporary file may belong to a running writer.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder / lock, silent, ""))
        except StorageError:
            names = ()
        for name in names:
            recover(folder / name)
        yield
