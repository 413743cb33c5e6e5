"""One change at a time: who adds a variant to a bundle reads all of it, and writes it minutes later."""

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
    """Be alone with the bundle at `path`, to be opened or replaced after this. Waits while another process changes it,
    and puts right what one left that was killed as it wrote.

    The lock file `.NAME.lock` stands beside the bundle: a bundle is replaced by a renaming there, so who may change it
    may write there, of whichever user and on whichever host that shares the folder. Raises StorageError where nothing
    can be written beside the bundle, and then BundleError where there is none.
    """
    path = path.resolve()
    with ExitStack() as stack:
        try:
            lock = path.with_name(f".{path.name}.lock")
            stack.enter_context(held(lock, progress, f"wait for another process that changes {path.name}"))
        except StorageError:
            open_storage(path)
            raise
        recover(path)
        yield


@contextmanager
def rewriting(folder: Path, lock: str, names: Iterable[str]) -> Iterator[None]:
    """Write the files `names` of a folder in this moment, after removing what killed writers left of them.

    Every writer of them holds the file `lock` there so long. Where the file system keeps no locks nothing is removed: a
    dead writer's temporary file can't be told from a live one's.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder / lock, silent, ""))
        except StorageError:
            names = ()
        for name in names:
            recover(folder / name)
        yield
