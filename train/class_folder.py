"""Reading of one class folder, which may contain folders of splits and labels."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..core.errors import DataError
from ..core.images import LeftOut, is_junk, junk_folder, search_images, why_not_image
from .split_names import Label, Split, label_folders, label_of, plain_name, split_folders

REAL = "real"  # class of the real images of all makers


@dataclass(frozen=True)
class ClassImage:
    """An image with its class, and its split if a folder names one."""

    class_name: str
    path: Path
    split: Split | None


@dataclass
class Reading:
    """The contents of a data folder, collected while reading."""

    images: list[ClassImage] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    makers: set[str] = field(default_factory=set)  # classes with folders of labels
    folders: set[str] = field(default_factory=set)  # `plain_name` of each class folder

    def notes(self) -> tuple[str, ...]:
        """Return a note on how folders of labels were read, if there were any."""
        if not self.makers:
            return ()
        names = ", ".join(sorted(self.makers))
        return (f"read as MAKER/{{real,generated}}: {names}; the real images of all makers are the class {REAL}",)


@dataclass(frozen=True)
class _Place:
    """Class, split and label of the images in a folder, from its parents' names."""

    name: str
    split: Split | None
    label: Label | None = None


def subfolders(folder: Path, left_out: list[LeftOut]) -> list[Path]:
    """Return the direct subfolders, sorted, links included. Junk is added to `left_out`. Raises DataError."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if Path(entry.path).is_dir():  # entry.is_dir() would raise for a link to itself
                    if is_junk(entry.name):
                        left_out.append(junk_folder(folder / entry.name))
                    else:
                        found.append(folder / entry.name)
    except OSError as error:
        raise DataError(f"can't list {folder}: {error.strerror}") from error
    return found


def loose_images(folder: Path) -> list[Path]:
    """Return the images directly in `folder`, sorted. Raises DataError."""
    try:
        files = sorted(path for path in folder.iterdir() if not path.is_dir())
    except OSError as error:
        raise DataError(f"can't list {folder}: {error.strerror}") from error
    return [path for path in files if why_not_image(path) is None]


def read_class(folder: Path, split: Split | None, reading: Reading) -> None:
    """Add the images of one class folder to `reading`. `split` is the split that a parent folder names, or None.

    Raises DataError for a folder without images, an unreadable folder, or folders named as splits or labels that match
    no layout of train/layout.py.
    """
    _read(folder, _Place(folder.name, split), reading)


def _read(folder: Path, place: _Place, reading: Reading) -> None:
    junk: list[LeftOut] = []
    below = subfolders(folder, junk)
    splits, labels = split_folders(below), label_folders(below)
    if not splits and not labels:
        _read_images(folder, place, reading)
        return
    known = splits or labels
    mixed = len(known) != len(below) or (place.split if splits else place.label) is not None
    if mixed or loose_images(folder):
        raise _not_a_class(folder, place.name, below)
    reading.left_out += junk
    for child, split in splits.items():
        _read(child, _Place(place.name, split, place.label), reading)
    if splits:
        return
    for child, label in labels.items():
        if label == "generated" and place.name.lower() == REAL:
            raise _not_a_class(folder, place.name, below)
        reading.makers.add(place.name)
        _read(child, _Place(REAL if label == "real" else place.name, place.split, label), reading)


def _read_images(folder: Path, place: _Place, reading: Reading) -> None:
    try:
        found = search_images(folder)
    except DataError as error:
        raise DataError(f"class {place.name}: {error}; add images or remove the folder") from error
    for parent, children in _tree(folder, found.images).items():
        others = reading.folders - {plain_name(place.name)}
        foreign = [
            child for child in children if _is_foreign(child.name, place.name) or plain_name(child.name) in others
        ]
        if split_folders(children) or label_folders(children) or foreign:
            raise _not_a_class(parent, place.name, children)
    reading.images += [ClassImage(place.name, path, place.split) for path in found.images]
    reading.left_out += found.left_out


def _is_foreign(folder: str, class_name: str) -> bool:
    """Whether a folder below a class is named as a label that contradicts the class."""
    return label_of(folder) == ("generated" if class_name.lower() == REAL else "real")


def _tree(root: Path, images: Iterable[Path]) -> dict[Path, list[Path]]:
    """Return the folders below `root` that contain images at any depth, by parent folder."""
    found: dict[Path, set[Path]] = defaultdict(set)
    for folder in {image.parent for image in images}:
        while folder != root:
            found[folder.parent].add(folder)
            folder = folder.parent
    return {parent: sorted(children) for parent, children in sorted(found.items())}


def _not_a_class(folder: Path, name: str, below: Iterable[Path]) -> DataError:
    names = [child.name for child in below]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    beside = " beside images" if loose_images(folder) else ""
    return DataError(
        f"class {name}: {folder} holds {{{shown}}}{beside}, which are not one class; expected {name}/IMAGES, "
        f"{name}/{{train,val,test}}/IMAGES or MAKER/{{0_real,1_fake}}/IMAGES"
    )
