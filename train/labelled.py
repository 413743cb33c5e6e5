"""The images that a detector is evaluated on: closed ones with their class names, open ones without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError, UsageError
from ..core.images import find_images
from .data import list_data
from .layout import SPLITS, class_folders, find_class_images

CHOICES = (*SPLITS, "all")


@dataclass(frozen=True)
class LabelledImages:
    """Image files with their class names, one a file."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]


def labelled_images(root: Path, split: str) -> LabelledImages:
    """The images of one split of a data folder, or with `all` of a folder that holds the classes themselves.

    Data that is split by itself is split as it was for training. Raises DataError, UsageError.
    """
    if split not in CHOICES:
        raise UsageError(f"no split {split!r}; choose one of: {', '.join(CHOICES)}")
    if split == "all":
        pairs = [(path, folder.name) for folder in _folders(root) for path in find_class_images(folder)]
    else:
        listing = list_data(root)
        pairs = [(item.path, listing.classes[item.class_index]) for item in listing.items if item.split == split]
    if not pairs:
        raise DataError(f"{root} has no images in {split}; choose another --split, or all for a folder of classes")
    return LabelledImages(tuple(path for path, _ in pairs), tuple(name for _, name in pairs))


def open_images(folder: Path | None) -> Sequence[Path]:
    """The images of makers that training never saw, in whatever folders below `folder`; None: no open set."""
    return () if folder is None else find_images(folder)


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"no such folder: {root}; it should hold one folder of images for each class")
    return class_folders(root)
