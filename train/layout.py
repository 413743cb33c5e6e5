"""How a data folder is laid out, and which image belongs to which split.

Three layouts, tried in this order:

(a) `Split.json` beside one folder for each class. It maps `train`, `val` and `test` to an object of class name to
    file names below that class's folder; images it doesn't list are left out:

        {"train": {"real": ["001.jpg"], "gan": ["a/7.png"]}, "val": {...}, "test": {...}}

    As in Proto-LeakNet's own files, `training`, `valid`, `validation` and `testing` are taken too, and a list of
    numbers in place of the object: positions in each class's files, sorted by lower-case name.
(b) Folders `train`, `val` and, if wanted, `test`, each with one folder for each class. Others beside them, such as
    `open`, are not looked at.
(c) One folder for each class: 70 % train, 15 % val, 15 % test of each, drawn by a seed that is always the same: a
    run with another `--seed` is tested on the same images. Files with one name (whatever their suffix or class) come
    from one picture, so they stay in one split.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from ..core.errors import DataError
from ..core.files import read_bounded
from ..core.images import find_images

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
SPLIT_FILE = "Split.json"

_SPLIT_SEED = 0
_SHARES: Mapping[Split, float] = {"train": 0.7, "val": 0.15, "test": 0.15}
_KEYS: Mapping[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_SPLIT_FILE_LIMIT = 256 << 20


@dataclass(frozen=True)
class Assignment:
    """An image file with its class and split."""

    class_name: str
    path: Path
    split: Split


def read_layout(root: Path) -> list[Assignment]:
    """Every image of a data folder with its class and split. Raises DataError, in one line."""
    if not root.is_dir():
        raise DataError(f"no such folder: {root}; it should hold one folder of images for each class")
    if (root / SPLIT_FILE).exists():
        return _from_split_file(root)
    folders = {folder.name: folder for folder in class_folders(root)}
    if "train" in folders and ("val" in folders or "test" in folders):
        return _from_split_folders(root)
    images = {name: find_class_images(folder) for name, folder in folders.items()}
    return _split(images)


def class_folders(root: Path) -> list[Path]:
    """The folders directly below `root`, sorted; hidden ones are left out. Raises DataError when there are none."""
    try:
        found = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as error:
        raise DataError(f"can't list {root}: {error.strerror}") from error
    if not found:
        raise DataError(f"{root} holds no folders; put the images of each class into a folder of its own")
    return found


def find_class_images(folder: Path) -> list[Path]:
    """The images of one class. Raises DataError when the folder holds none."""
    try:
        return find_images(folder)
    except DataError as error:
        raise DataError(f"class {folder.name}: {error}; add images or remove the folder") from error


def _from_split_folders(root: Path) -> list[Assignment]:
    if not (root / "val").is_dir():
        raise DataError(f"{root} has train and test but no val; thresholds and the best epoch rest on val")
    found = []
    for split in SPLITS:
        if (root / split).is_dir():
            for folder in class_folders(root / split):
                found += [Assignment(folder.name, path, split) for path in find_class_images(folder)]
    return found


def _from_split_file(root: Path) -> list[Assignment]:
    path = root / SPLIT_FILE
    taken: dict[Path, Assignment] = {}
    for key, entries in _read_split_file(path).items():
        if not isinstance(entries, (dict, list)):
            continue  # a comment, a seed
        if key.lower() not in _KEYS:
            raise DataError(f"{path}: no split is named {key!r}; use train, val and test")
        split = _KEYS[key.lower()]
        for name, files in _files_by_class(root, path, entries).items():
            for file in files:
                before = taken.setdefault(file, Assignment(name, file, split))
                if before.split != split:
                    raise DataError(f"{path}: {file.relative_to(root)} is in {before.split} and in {split}")
    if not taken:
        raise DataError(f"{path} lists no images")
    return list(taken.values())


def _read_split_file(path: Path) -> dict[str, object]:
    try:
        data = json.loads(read_bounded(path, _SPLIT_FILE_LIMIT))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} can't be read as JSON ({error})") from error
    if not isinstance(data, dict):
        raise DataError(f"{path} must be an object with train, val and test")
    return data


def _files_by_class(root: Path, path: Path, entries: dict[str, object] | list[object]) -> dict[str, list[Path]]:
    if isinstance(entries, list):
        return {folder.name: _by_position(path, folder, entries) for folder in class_folders(root)}
    return {name: _by_name(root, path, name, files) for name, files in entries.items()}


def _by_name(root: Path, path: Path, name: str, files: object) -> list[Path]:
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise DataError(f"{path}: class {name!r} needs a list of file names")
    found = []
    for file in files:
        relative = PurePosixPath(name, file)
        if len(PurePosixPath(name).parts) != 1 or relative.is_absolute() or ".." in relative.parts or "\0" in file:
            raise DataError(f"{path}: {name}/{file} does not lie in the folder of its class")
        found.append(root / relative)
        if not found[-1].is_file():
            raise DataError(f"{path} lists {relative}, which is not there")
    return found


def _by_position(path: Path, folder: Path, positions: Sequence[object]) -> list[Path]:
    files = sorted(find_class_images(folder), key=lambda file: file.name.lower())
    found = []
    for position in positions:
        if not isinstance(position, int) or isinstance(position, bool) or not 0 <= position < len(files):
            raise DataError(f"{path}: {position!r} is no position in class {folder.name} ({len(files)} images)")
        found.append(files[position])
    return found


def _split(images: Mapping[str, Sequence[Path]]) -> list[Assignment]:
    """Layout (c). Pictures are taken in a drawn order; each goes where its classes lack most."""
    pictures: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for name, paths in images.items():
        for path in paths:
            pictures[path.stem].append((name, path))
    wanted = {name: _quota(name, len(paths)) for name, paths in images.items()}
    got: dict[str, Counter[Split]] = {name: Counter() for name in images}
    found = []
    for stem in sorted(pictures, key=lambda stem: (-len(pictures[stem]), _draw(stem))):
        members = pictures[stem]

        def lack(split: Split, members: Sequence[tuple[str, Path]] = members) -> float:
            return sum(1 - got[name][split] / wanted[name][split] for name, _ in members)

        split = max(SPLITS, key=lack)
        for name, path in members:
            got[name][split] += 1
            found.append(Assignment(name, path, split))
    return found


def _quota(name: str, count: int) -> dict[Split, int]:
    if count < len(SPLITS):
        raise DataError(f"class {name} has {count} images; at least 3 are needed to split them, and many to learn")
    held_out: dict[Split, int] = {s: max(1, round(count * _SHARES[s])) for s in ("val", "test")}
    return {"train": count - sum(held_out.values()), **held_out}


def _draw(stem: str) -> bytes:
    return hashlib.sha256(str(_SPLIT_SEED).encode() + b"/" + os.fsencode(stem)).digest()
