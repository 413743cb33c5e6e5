"""Reading of `Split.json`, which assigns images to splits. train/layout.py describes its format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from ..core.errors import DataError
from ..core.files import read_bounded
from .class_folder import ClassImage
from .split_names import Split, split_of

SPLIT_FILE = "Split.json"
_LIMIT = 256 << 20


def find_split_file(root: Path) -> Path | None:
    """Find the file named Split.json, in any case; None if there is none. Raises DataError for two of them."""
    try:
        found = sorted(path for path in root.iterdir() if path.name.lower() == SPLIT_FILE.lower())
    except OSError as error:
        raise DataError(f"can't list {root}: {error.strerror}") from error
    if len(found) > 1:
        raise DataError(f"{root} holds {' and '.join(path.name for path in found)}; keep only one of them")
    return found[0] if found else None


def from_split_file(path: Path, classes: Mapping[str, Sequence[Path]]) -> list[ClassImage]:
    """Return the images that the file lists. `classes` maps each class folder's name to its images.

    Raises DataError for another format, an unknown split, a missing file, or an image in two splits.
    """
    root = path.parent
    taken: dict[Path, ClassImage] = {}
    seen: dict[Split, str] = {}
    for key, entries in _read(path).items():
        if not isinstance(entries, (dict, list)):
            continue  # such as a comment or a seed
        split = split_of(key)
        if split is None:
            raise DataError(f"{path}: no split is named {key!r}; use train, val and test")
        if seen.setdefault(split, key) != key:
            raise DataError(f"{path}: {seen[split]!r} and {key!r} both mean {split}; merge them")
        for name, files in _files_by_class(path, entries, classes).items():
            for file in files:
                before = taken.setdefault(file, ClassImage(name, file, split))
                if before.split != split:
                    raise DataError(f"{path}: {file.relative_to(root)} is in {before.split} and in {split}")
    if not taken:
        raise DataError(f"{path} lists no images")
    return list(taken.values())


def _read(path: Path) -> dict[str, object]:
    try:
        data = json.loads(read_bounded(path, _LIMIT), object_pairs_hook=_without_repeats)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} can't be read as JSON ({error})") from error
    if not isinstance(data, dict):
        raise DataError(f"{path} must be an object with train, val and test")
    return data


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Build an object from pairs. Raises ValueError for a repeated key, where JSON would keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"the key {twice!r} is repeated")
    return found


def _files_by_class(
    path: Path, entries: dict[str, object] | list[object], classes: Mapping[str, Sequence[Path]]
) -> dict[str, list[Path]]:
    if isinstance(entries, list):
        return {name: _by_position(path, name, images, positions=entries) for name, images in classes.items()}
    return {name: _by_name(path, name, files) for name, files in entries.items()}


def _by_name(path: Path, name: str, files: object) -> list[Path]:
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise DataError(f"{path}: class {name!r} needs a list of file names")
    found = []
    for file in files:
        relative = PurePosixPath(name, file)
        if len(PurePosixPath(name).parts) != 1 or relative.is_absolute() or ".." in relative.parts or "\0" in file:
            raise DataError(f"{path}: {name}/{file} is not in the folder of its class")
        found.append(path.parent / relative)
        if not found[-1].is_file():
            raise DataError(f"{path} lists {relative}, which does not exist")
    return found


def _by_position(path: Path, name: str, images: Sequence[Path], *, positions: Sequence[object]) -> list[Path]:
    files = sorted(images, key=lambda file: file.name.lower())
    found = []
    for position in positions:
        if not isinstance(position, int) or isinstance(position, bool) or not 0 <= position < len(files):
            raise DataError(f"{path}: {position!r} is not a position in class {name} ({len(files)} images)")
        found.append(files[position])
    return found
