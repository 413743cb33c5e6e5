"""Evaluation images: closed ones with class names, open ones without."""

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
    """Image files and the class name of each."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()  # how ambiguous folders were read


@dataclass(frozen=True)
class OpenImages:
    """Image files of generators that are not among the known classes."""

    paths: tuple[Path, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def labelled_images(root: Path, split: str) -> LabelledImages:
    """Return the images of one split of a data folder, or with `all` those of a folder of classes.

    Data without splits is split as for training. Raises DataError, UsageError.
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
        raise DataError(f"{root} has no images in {split}; choose another --split, or use all for a folder of classes")
    pairs.sort(key=lambda pair: (pair[1], pair[0].parts))
    return LabelledImages(
        paths=tuple(path for path, _ in pairs), labels=tuple(name for _, name in pairs), left_out=left_out, notes=notes
    )


def open_images(folder: Path | None, *, known: tuple[str, ...] = ()) -> OpenImages:
    """Return all images below `folder`, which holds generators unseen in training. None means no open set.

    Raises DataError, also for a subfolder that has the name of a class in `known` or of a label such as `0_real`.
    """
    if folder is None:
        return OpenImages()
    found = search_images(folder)
    classes = {name.lower() for name in known}
    parents = {parent for path in found.images for parent in path.parents if parent.is_relative_to(folder)}
    for parent in sorted(parents):
        if parent.resolve().name.lower() in classes:
            raise DataError(f"{parent} has the name of a known class; --open takes images of other generators only")
        labels = label_folders(child for child in parents if child.parent == parent and child != parent)
        if labels:
            named = min(labels)
            raise DataError(f"{named} has the name of a label; --open takes generated images only: pass their folder")
    return OpenImages(found.images, found.left_out)
