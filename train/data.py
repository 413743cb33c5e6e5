"""The data set: labelled images found, split, hashed and proved readable before anything is trained on them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError, ImageError
from ..core.progress import Progress
from .fingerprints import Fingerprint, FingerprintCache, Identity, identify
from .fingerprints import hash_image as hash_image
from .layout import SPLITS, Split, read_layout
from .leakage import Labelled, across_splits, alike_notes, refuse_two_labels, repeated_message

_NAMED_AT_MOST = 10  # bad files in one message


@dataclass(frozen=True)
class Item:
    """One labelled image."""

    path: Path
    class_index: int  # into `classes`
    split: Split


@dataclass(frozen=True)
class Listing:
    """What a data folder holds, before any image was opened."""

    root: Path
    classes: tuple[str, ...]  # sorted
    items: tuple[Item, ...]  # sorted by class, then path


@dataclass(frozen=True)
class DataSet:
    """A listing whose files are hashed and readable."""

    root: Path
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    hashes: tuple[str, ...]  # SHA-256 of each item's file, in hex
    fingerprint: str  # SHA-256 over classes, relative paths, labels, splits and hashes
    pictures: tuple[Fingerprint, ...]  # what each item shows
    notes: tuple[str, ...] = ()  # what the user should know: images left out, or alike in two splits

    def indices(self, split: Split) -> npt.NDArray[np.int64]:
        """Positions of one split's items: int64 [N]."""
        return np.array([i for i, item in enumerate(self.items) if item.split == split], np.int64)

    def labels(self, split: Split) -> npt.NDArray[np.int64]:
        """Class indices of one split's items, in the order of `indices`: int64 [N]."""
        return np.array([item.class_index for item in self.items if item.split == split], np.int64)

    def counts(self) -> dict[str, dict[str, int]]:
        """Images of each class in each split: split to class name to count."""
        found = Counter((item.split, item.class_index) for item in self.items)
        return {s: {name: found[s, k] for k, name in enumerate(self.classes)} for s in SPLITS}


def list_data(root: Path) -> Listing:
    """Find the labelled images of a data folder; `layout.read_layout` says which layouts there are.

    No image is opened. Raises DataError: no such folder, fewer than two classes, an empty class, a class that is
    missing in train or val, a broken Split.json.
    """
    assignments = read_layout(root)
    classes = tuple(sorted({a.class_name for a in assignments}))
    if len(classes) < 2:
        raise DataError(f"{root} holds one class only ({classes[0]}); at least two are needed, each in its own folder")
    index = {name: k for k, name in enumerate(classes)}
    ordered = sorted(assignments, key=lambda a: (a.class_name, a.path.parts))
    items = tuple(Item(a.path, index[a.class_name], a.split) for a in ordered)
    _check_classes(root, classes, items)
    return Listing(root, classes, items)


def load_data(
    listing: Listing,
    known: Callable[[str], bool],
    threads: int,
    skip_bad: bool,
    progress: Progress,
    fingerprints: FingerprintCache,
) -> DataSet:
    """Hash every file, and decode those whose hash is not `known` to be readable or has no cached fingerprint.

    Raises DataError naming files that can't be read, one picture under two labels, and pictures that are in two splits.
    With `skip_bad` unreadable files are left out, and pictures of val and test that an earlier split holds; notes say
    so. Raises StorageError.
    """
    results = identify([item.path for item in listing.items], fingerprints, threads, progress, known=known)
    bad = [result for result in results if isinstance(result, ImageError)]
    if bad and not skip_bad:
        raise DataError(f"{_named(bad, len(results))}; remove or replace them, or leave them out with --skip-bad")
    pairs = [(item, found) for item, found in zip(listing.items, results, strict=True) if isinstance(found, Identity)]
    notes = [f"left out: {_named(bad, len(results))}"] if bad else []
    pairs, more = _without_leaks(listing, pairs, skip_bad)
    items = tuple(item for item, _ in pairs)
    _check_classes(listing.root, listing.classes, items)
    hashes = tuple(found.digest for _, found in pairs)
    return DataSet(
        root=listing.root,
        classes=listing.classes,
        items=items,
        hashes=hashes,
        fingerprint=_fingerprint(listing.root, listing.classes, items, hashes),
        pictures=tuple(found.fingerprint for _, found in pairs),
        notes=(*notes, *more),
    )


def _without_leaks(
    listing: Listing, pairs: Sequence[tuple[Item, Identity]], skip_bad: bool
) -> tuple[list[tuple[Item, Identity]], list[str]]:
    """The images that are used, and notes. Raises DataError as `load_data` does."""
    pictures = [
        Labelled(path=i.path, label=listing.classes[i.class_index], split=i.split, fingerprint=found.fingerprint)
        for i, found in pairs
    ]
    refuse_two_labels(pictures)
    repeated, notes = across_splits(pictures), []
    if repeated:
        message = repeated_message(pictures, repeated)
        if not skip_bad:
            raise DataError(f"{message}; remove them, or leave them out of the later split with --skip-bad")
        notes.append(f"left out of the later split: {message}")
    kept = [i for i in range(len(pairs)) if i not in repeated]
    notes += alike_notes([pictures[i] for i in kept])
    return [pairs[i] for i in kept], notes


def _named(bad: Sequence[ImageError], total: int) -> str:
    names = "; ".join(str(error) for error in bad[:_NAMED_AT_MOST])
    rest = f"; and {len(bad) - _NAMED_AT_MOST} more" if len(bad) > _NAMED_AT_MOST else ""
    return f"{len(bad)} of {total} images can't be read: {names}{rest}"


def _check_classes(root: Path, classes: Sequence[str], items: Sequence[Item]) -> None:
    found = {(item.split, item.class_index) for item in items}
    for k, name in enumerate(classes):
        held = [s for s in SPLITS if (s, k) in found]
        if not held:
            raise DataError(f"{root}: class {name} has no readable image; add some or remove its folder")
        if "train" not in held:
            raise DataError(f"{root}: class {name} is in {' and '.join(held)} only; it needs images in train too")
        if "val" not in held:
            raise DataError(f"{root}: class {name} has no image in val; thresholds and the best epoch rest on them")


def _fingerprint(root: Path, classes: Sequence[str], items: Sequence[Item], hashes: Sequence[str]) -> str:
    digest = hashlib.sha256(repr(tuple(classes)).encode())
    for item, file_hash in zip(items, hashes, strict=True):
        digest.update(os.fsencode(item.path.relative_to(root).as_posix()))
        digest.update(f"\0{item.class_index}\0{item.split}\0{file_hash}\n".encode())
    return digest.hexdigest()
