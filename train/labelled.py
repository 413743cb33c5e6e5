"""The images that a detector is evaluated on: closed ones with their class names, open ones without."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError, UsageError
from ..core.images import LeftOut, search_images
from .layout import SPLITS, read_classes, read_layout
from .split_names import label_folders

CHOICES = (*SPLITS, "all")


@dataclass(frozen=True, kw_only=True)
class LabelledImages:
    """Image files with their class names, one a file."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()  # how folders were read where that is a choice


@dataclass(frozen=True)
class OpenImages:
    """Image files of makers that training never saw."""

    paths: tuple[Path, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def labelled_images(root: Path, split: str) -> LabelledImages:
    """The images of one split of a data folder, or with `all` of a folder that holds the classes themselves.

    Data that is split by itself is split as it was for training. Raises DataError, UsageError.
    """
    if split not in CHOICES:
        raise UsageError(f"no split {split!r}; choose one of: {', '.join(CHOICES)}")
    if split == "all":
        reading = read_classes(root)
        pairs = [(image.path, image.class_name) for image in reading.images]
        left_out, notes = tuple(reading.left_out), reading.notes()
    else:
        layout = read_layout(root)
        pairs = [(image.path, image.class_name) for image in layout.images if image.split == split]
        left_out, notes = layout.left_out, layout.notes
    if not pairs:
        raise DataError(f"{root} has no images in {split}; choose another --split, or all for a folder of classes")
    pairs.sort(key=lambda pair: (pair[1], pair[0].parts))
    return LabelledImages(
        paths=tuple(path for path, _ in pairs), labels=tuple(name for _, name in pairs), left_out=left_out, notes=notes
    )


def open_images(folder: Path | None, *, known: tuple[str, ...] = ()) -> OpenImages:
    """The images of makers that training never saw, in whatever folders below `folder`; None: no open set.

    Raises DataError, also for a folder that bears the name of a class in `known`, or of a label such as `0_real`: its
    images are no unseen maker's.
    """
    if folder is None:
        return OpenImages()
    found = search_images(folder)
    classes = {name.lower() for name in known}
    parents = {parent for path in found.images for parent in path.parents if parent.is_relative_to(folder)}
    for parent in sorted(parents):
        if parent.resolve().name.lower() in classes:
            raise DataError(f"{parent} has the name of a class that the model knows; --open takes other makers only")
        labels = label_folders(child for child in parents if child.parent == parent and child != parent)
        if labels:
            named = min(labels)
            raise DataError(f"{named} is named as a label, and real images are no unseen maker; give the folders apart")
    return OpenImages(found.images, found.left_out)
