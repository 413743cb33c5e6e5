"""One change of a bundle at a time: who adds a variant or a gate reads all of it, and writes it minutes later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import cache_folder, make_folder, recover, sha256_bytes
from .locks import held
from .progress import Progress


@contextmanager
def changing(path: Path, progress: Progress) -> Iterator[None]:
    """Be alone with the bundle at `path`, to be opened or replaced after this. Waits while another process of this user
    changes it, and puts right what one left that was killed as it wrote. Raises StorageError.
    """
    path = path.resolve()
    folder = cache_folder() / "locks"
    make_folder(folder)
    lock = folder / f"{sha256_bytes(bytes(path))[:32]}.lock"
    with held(lock, "train", progress, f"wait for another process that changes {path.name}"):
        recover(path)
        yield
