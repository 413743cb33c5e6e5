"""The data set: labelled images, found, split, hashed and checked for readability before training."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError, ImageError
from ..core.images import LeftOut, left_out_note
from ..core.progress import Progress
from .contents import Content, ContentCache, Seen, see_images
from .contents import hash_image as hash_image
from .layout import SPLITS, Layout, Split, read_layout
from .repeats import Picture, likeness_notes, refuse_two_labels, repeat_notes, repeats

_NAMED_AT_MOST = 10  # unreadable files in one message


@dataclass(frozen=True)
class Item:
    """One labelled image."""

    path: Path
    class_index: int  # into `classes`
    split: Split


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The contents of a data folder, before any image is opened."""

    root: Path
    more: tuple[Path, ...] = ()  # other folders with images of the same classes
    classes: tuple[str, ...]  # sorted
    items: tuple[Item, ...]  # sorted by class, then path
    left_out: tuple[LeftOut, ...] = ()  # files and folders that are not images of a class
    notes: tuple[str, ...] = ()  # how ambiguous folders were read, and what was left out


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A listing whose files are readable, with their hashes."""

    root: Path
    more: tuple[Path, ...] = ()
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    hashes: tuple[str, ...]  # SHA-256 of each item's file, in hex
    fingerprint: str  # SHA-256 over classes, relative paths, labels, splits and hashes
    notes: tuple[str, ...] = ()  # remarks for the user, such as files left out
    contents: tuple[Content, ...] = ()  # content hashes of each item
    left_out: tuple[LeftOut, ...] = ()  # all files and folders that are not items

    def indices(self, split: Split) -> npt.NDArray[np.int64]:
        """Return the positions of one split's items, int64 [N]."""
        return np.array([i for i, item in enumerate(self.items) if item.split == split], np.int64)

    def labels(self, split: Split) -> npt.NDArray[np.int64]:
        """Return the class indices of one split's items in the order of `indices`, int64 [N]."""
        return np.array([item.class_index for item in self.items if item.split == split], np.int64)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the number of images by split and class name."""
        found = Counter((item.split, item.class_index) for item in self.items)
        return {s: {name: found[s, k] for k, name in enumerate(self.classes)} for s in SPLITS}


def list_data(root: Path, *, more: Sequence[Path] = (), without: str | None = None) -> Listing:
    """Find the labelled images of a data folder without opening them. train/layout.py describes the layouts.

    The folders of `more` add images to the same classes and splits. Images of the class `without` are ignored.

    Raises DataError for a missing folder, a folder named twice, fewer than two classes, an empty class, a class that
    only `more` has, no val split, a class that is missing in train or val, or an invalid Split.json.
    """
    layout = _joined(root, more)
    if without is not None:
        layout = replace(layout, images=tuple(a for a in layout.images if a.class_name != without))
    splits = {a.split for a in layout.images}
    if "train" in splits and "val" not in splits:
        present = " and ".join(split for split in SPLITS if split in splits)
        raise DataError(f"{root} has {present} but no val; add one: thresholds and the best epoch are chosen on it")
    classes = tuple(sorted({a.class_name for a in layout.images}))
    if len(classes) < 2:
        raise DataError(f"{root} holds only one class ({classes[0]}); at least two are needed, each in its own folder")
    index = {name: k for k, name in enumerate(classes)}
    ordered = sorted(layout.images, key=lambda a: (a.class_name, a.path.parts))
    items = tuple(Item(a.path, index[a.class_name], a.split) for a in ordered)
    _check_classes(root, classes, items)
    rest = left_out_note(layout.left_out)
    return Listing(
        root=root,
        more=tuple(more),
        classes=classes,
        items=items,
        left_out=layout.left_out,
        notes=(*layout.notes, *([rest] if rest else [])),
    )


def left_out_of(root: Path) -> list[dict[str, object]]:
    """Return the files that `list_data` leaves out, as JSON objects. Raises DataError."""
    return [one.to_json() for one in list_data(root).left_out]


def load_data(listing: Listing, cache: ContentCache, threads: int, *, skip_bad: bool, progress: Progress) -> DataSet:
    """Hash every file, and decode files whose content is not cached.

    Images of val or test whose pixels are also in an earlier split are left out, with a note. Raises DataError naming
    up to ten unreadable files (with `skip_bad` they are left out), and for one picture under two labels.
    """
    results = see_images([item.path for item in listing.items], cache, threads=threads, progress=progress)
    bad = [result for result in results if isinstance(result, ImageError)]
    if bad and not skip_bad:
        raise DataError(f"{_named(bad, len(results))}; remove or replace them, or skip them with --skip-bad")
    unread = [i.path for i, r in zip(listing.items, results, strict=True) if not isinstance(r, Seen)]
    left_out = [*listing.left_out, *(LeftOut(path, "that can't be read") for path in unread)]
    notes = [*listing.notes, *([f"left out: {_named(bad, len(results))}"] if bad else [])]
    pairs = [(i, r) for i, r in zip(listing.items, results, strict=True) if isinstance(r, Seen)]
    pictures = [
        Picture(path=i.path, label=listing.classes[i.class_index], content=r.content, split=i.split) for i, r in pairs
    ]
    refuse_two_labels([p.path for p in pictures], [p.label for p in pictures], [p.content for p in pictures])
    notes += _reader_notes(pictures)
    duplicates = repeats(pictures)
    repeated, more = repeat_notes(pictures, duplicates)
    kept = [pair for k, pair in enumerate(pairs) if k not in duplicates]
    notes += [*more, *likeness_notes([p for k, p in enumerate(pictures) if k not in duplicates])]
    items, hashes = tuple(i for i, _ in kept), tuple(r.digest for _, r in kept)
    _check_classes(listing.root, listing.classes, items)
    return DataSet(
        root=listing.root,
        more=listing.more,
        classes=listing.classes,
        items=items,
        hashes=hashes,
        fingerprint=_fingerprint((listing.root, *listing.more), listing.classes, items, hashes=hashes),
        notes=tuple(notes),
        contents=tuple(r.content for _, r in kept),
        left_out=(*left_out, *repeated),
    )


def _reader_notes(pictures: Sequence[Picture]) -> list[str]:
    """Return one line per conversion or choice of the image reader, with its number of images and an example."""
    found: dict[str, list[Path]] = {}
    for picture in pictures:
        for note in picture.content.notes:
            found.setdefault(note, []).append(picture.path)
    return [f"{len(paths)} image{'s' * (len(paths) > 1)}, such as {paths[0]}: {note}" for note, paths in found.items()]


def _named(bad: Sequence[ImageError], total: int) -> str:
    names = "; ".join(str(error) for error in bad[:_NAMED_AT_MOST])
    rest = f"; and {len(bad) - _NAMED_AT_MOST} more" if len(bad) > _NAMED_AT_MOST else ""
    return f"{len(bad)} of {total} images can't be read: {names}{rest}"


def _check_classes(root: Path, classes: Sequence[str], items: Sequence[Item]) -> None:
    found = {(item.split, item.class_index) for item in items}
    for k, name in enumerate(classes):
        present_in = [s for s in SPLITS if (s, k) in found]
        if not present_in:
            raise DataError(f"{root}: class {name} has no readable image; add some or remove its folder")
        if "train" not in present_in:
            raise DataError(f"{root}: class {name} has images in {' and '.join(present_in)} only; add some to train")
        if "val" not in present_in:
            raise DataError(
                f"{root}: class {name} has no image in val; add some: thresholds and the best epoch are chosen on them"
            )


def _joined(root: Path, more: Sequence[Path]) -> Layout:
    """Read the folders as one. A class that only a folder of `more` has is most likely a misspelt one."""
    layout = read_layout(root)
    places = [root.resolve()]
    for folder in more:
        place = folder.resolve()
        if any(place.is_relative_to(other) or other.is_relative_to(place) for other in places):
            raise DataError(f"{folder} is named twice, or lies in another folder of images; name each folder once")
        places.append(place)
        other = read_layout(folder)
        known = {a.class_name for a in layout.images}
        unknown = sorted({a.class_name for a in other.images} - known)
        if unknown:
            raise DataError(
                f"{folder} has the class {unknown[0]}, which {root} lacks; it has {', '.join(sorted(known))}. "
                "Rename the folder, or name the folder with all classes first"
            )
        layout = Layout(
            images=(*layout.images, *other.images),
            left_out=(*layout.left_out, *other.left_out),
            notes=(*layout.notes, *other.notes),
        )
    return layout


def _fingerprint(roots: Sequence[Path], classes: Sequence[str], items: Sequence[Item], *, hashes: Sequence[str]) -> str:
    digest = hashlib.sha256(repr(tuple(classes)).encode())
    for item, file_hash in zip(items, hashes, strict=True):
        place = next(k for k, root in enumerate(roots) if item.path.is_relative_to(root))
        prefix = f"{place}:" if place else ""  # none for the first, so that old runs resume
        digest.update(os.fsencode(prefix + item.path.relative_to(roots[place]).as_posix()))
        digest.update(f"\0{item.class_index}\0{item.split}\0{file_hash}\n".encode())
    return digest.hexdigest()
