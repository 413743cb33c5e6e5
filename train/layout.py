"""Layouts of a data folder: classes and splits of its images.

Layouts are tried in this order:

(a) `Split.json` (in any case) beside one folder per class. It maps `train`, `val` and `test` to an object of class name
    to file names below that class's folder. Images that it doesn't list are left out:

        {"train": {"real": ["001.jpg"], "gan": ["a/7.png"]}, "val": {...}, "test": {...}}

    As in Proto-LeakNet's files, a list of numbers can replace the object: positions in each class's files, sorted by
    lower-case name.
(b) SPLIT/CLASS: folders `train`, `val` and optionally `test`. Other folders beside them, such as `open`, are left out.
(c) CLASS/SPLIT: as (b), with the levels swapped.
(d) CLASS: 70 % train, 15 % val, 15 % test of each class, drawn with a fixed seed, so that runs with another `--seed`
    are tested on the same images. Files with the same stem, in any class, are assumed to come from one picture and stay
    in one split.

CLASS can also be MAKER/{0_real,1_fake}, MAKER/{nature,ai} or MAKER/{real,fake}, as in CNNDetection, ForenSynths and
GenImage. The real images of all makers then form the class `real`, the generated ones the class MAKER.
Folders below a class are searched recursively; folders named as splits or labels are rejected there (class_folder.py).
`training`, `valid`, `validation`, `dev` and `testing`, in any case, mean train, val and test.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError
from ..core.images import LeftOut, search_images
from .class_folder import ClassImage, Reading, loose_images, read_class, subfolders
from .split_file import find_split_file, from_split_file
from .split_names import SPLITS as SPLITS
from .split_names import Split as Split
from .split_names import plain_name, split_folders

_SPLIT_SEED = 0
_SHARES: Mapping[Split, float] = {"train": 0.7, "val": 0.15, "test": 0.15}


@dataclass(frozen=True)
class Assignment:
    """An image file with its class and split."""

    class_name: str
    path: Path
    split: Split


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The images of a data folder with their classes and splits."""

    images: tuple[Assignment, ...]
    left_out: tuple[LeftOut, ...] = ()  # all other files and folders
    notes: tuple[str, ...] = ()  # how ambiguous folders were read


def read_layout(root: Path) -> Layout:
    """Return every image of a data folder with its class and split. Raises DataError."""
    reading, folders = _open(root)
    file = find_split_file(root)
    if file is not None:
        return _listed(file, folders, reading)
    splits = split_folders(folders)
    if splits:
        reading.left_out += [LeftOut(f, "folders beside the splits", 0) for f in folders if f not in splits]
        for folder, split in splits.items():
            for class_folder in _class_folders(folder, reading):
                read_class(class_folder, split, reading)
        return _layout(reading, _assigned(reading.images))
    for folder in folders:
        read_class(folder, None, reading)
    return _layout(reading, _split_below(root, reading))


def read_classes(root: Path) -> Reading:
    """Return every image of a folder with one subfolder per class, whatever its split. Raises DataError."""
    reading, folders = _open(root)
    splits = split_folders(folders)
    if splits:
        names = ", ".join(folder.name for folder in splits)
        raise DataError(f"{root} holds the splits {names}, not classes; choose one with --split, or pass its folder")
    for folder in folders:
        read_class(folder, None, reading)
    _refuse_look_alikes(image.class_name for image in reading.images)
    return reading


def _open(root: Path) -> tuple[Reading, list[Path]]:
    if not root.is_dir():
        raise DataError(f"no such folder: {root}; pass a folder with one subfolder of images per class")
    reading = Reading()
    return reading, _class_folders(root, reading)


def _class_folders(root: Path, reading: Reading) -> list[Path]:
    """Return the direct subfolders, sorted, and record loose images. Raises DataError if there are none."""
    found = subfolders(root, reading.left_out)
    if not found:
        raise DataError(f"{root} holds no folders; put the images of each class into a separate folder")
    reading.left_out += [LeftOut(path, "images beside the folders") for path in loose_images(root)]
    reading.folders |= {plain_name(folder.name) for folder in found}
    return found


def _listed(file: Path, folders: Sequence[Path], reading: Reading) -> Layout:
    """Read layout (a)."""
    classes = {}
    for folder in folders:
        try:
            found = search_images(folder)
        except DataError as error:
            raise DataError(f"class {folder.name}: {error}; add images or remove the folder") from error
        classes[folder.name] = found.images
        reading.left_out += found.left_out
    images = from_split_file(file, classes)
    taken = {image.path for image in images}
    unlisted = [path for paths in classes.values() for path in paths if path not in taken]
    reading.left_out += [LeftOut(path, f"not in {file.name}") for path in unlisted]
    return _layout(reading, _assigned(images))


def _split_below(root: Path, reading: Reading) -> list[Assignment]:
    """Assign splits in layouts (c) and (d)."""
    named = {image.class_name for image in reading.images if image.split is not None}
    whole = {image.class_name for image in reading.images if image.split is None}
    if named and whole:
        raise DataError(
            f"{root}: class {min(named)} is split by folders and class {min(whole)} is not; "
            "give every class train, val and test, or none"
        )
    return _assigned(reading.images) if named else _draw_splits(reading.images)


def _assigned(images: Sequence[ClassImage]) -> list[Assignment]:
    return [Assignment(one.class_name, one.path, one.split) for one in images if one.split is not None]


def _refuse_look_alikes(names: Iterable[str]) -> None:
    """Raise DataError if two class names differ only in case, outer spaces or Unicode form."""
    first: dict[str, str] = {}
    for name in sorted(set(names)):
        before = first.setdefault(plain_name(name), name)
        if before != name:
            raise DataError(f"the classes {before!r} and {name!r} have names that look alike; merge them or rename one")


def _layout(reading: Reading, images: Sequence[Assignment]) -> Layout:
    _refuse_look_alikes(image.class_name for image in images)
    return Layout(images=tuple(images), left_out=tuple(reading.left_out), notes=reading.notes())


def _draw_splits(images: Sequence[ClassImage]) -> list[Assignment]:
    """Draw the splits of layout (d): in random order, each picture joins the split that its classes lack most."""
    pictures: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for image in images:
        pictures[image.path.stem].append((image.class_name, image.path))
    wanted = {name: _quota(name, count) for name, count in Counter(image.class_name for image in images).items()}
    got: dict[str, Counter[Split]] = {name: Counter() for name in wanted}
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
        raise DataError(f"class {name} has {count} images; at least 3 are needed to split them, and more to train well")
    held_out: dict[Split, int] = {s: max(1, round(count * _SHARES[s])) for s in ("val", "test")}
    return {"train": count - sum(held_out.values()), **held_out}


def _draw(stem: str) -> bytes:
    return hashlib.sha256(str(_SPLIT_SEED).encode() + b"/" + os.fsencode(stem)).digest()
