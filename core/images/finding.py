"""Finding image files in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


def find_images(path: str | Path) -> list[Path]:
    """The image files at `path`: itself when it is a file, else all below that folder, sorted by name.

    Files are told by their suffix (in any case); names that begin with a dot are left out, links to folders
    not followed. Raises DataError when nothing is there, a folder can't be listed, or it holds no image.
    """
    root = Path(path)
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError(f"no such file or folder: {root}")
    found = sorted(_walk(root), key=lambda image: image.parts)
    if not found:
        raise DataError(f"{root} holds no images ({', '.join(sorted(SUFFIXES))})")
    return found


def _walk(root: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"can't list {error.filename}: {error.strerror}") from error

    for folder, folders, names in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            candidate = Path(folder, name)
            if candidate.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield candidate
