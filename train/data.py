"""The data set: labelled images found, split, hashed and proved readable before anything is trained on them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.errors import DataError, ImageError
from ..core.files import sha256_file
from ..core.images import MAX_FILE_BYTES, read_image
from ..core.progress import Progress
from .layout import SPLITS, Split, read_layout

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
    notes: tuple[str, ...] = ()  # what the user should know: files left out, test images seen in training

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
) -> DataSet:
    """Hash every file, and decode those whose hash is not `known` to be readable.

    Raises DataError naming up to ten files that can't be read, or with `skip_bad` leaves them out and says so.
    """
    results = []
    with ThreadPoolExecutor(threads) as pool:
        checks = pool.map(lambda item: _hash_readable(item.path, known), listing.items)
        for done, result in enumerate(checks, 1):
            results.append(result)
            progress("reading images", done, len(listing.items))
    bad = [result for result in results if isinstance(result, ImageError)]
    if bad and not skip_bad:
        raise DataError(f"{_named(bad, len(results))}; remove or replace them, or leave them out with --skip-bad")
    pairs = [(i, r) for i, r in zip(listing.items, results, strict=True) if isinstance(r, str)]
    items, hashes = tuple(i for i, _ in pairs), tuple(r for _, r in pairs)
    _check_classes(listing.root, listing.classes, items)
    notes = [f"left out: {_named(bad, len(results))}"] if bad else []
    notes += _overlap_notes(items, hashes)
    fingerprint = _fingerprint(listing.root, listing.classes, items, hashes)
    return DataSet(listing.root, listing.classes, items, hashes, fingerprint, tuple(notes))


def hash_image(path: Path) -> str:
    """SHA-256 of an image file, in hex. Raises ImageError for what is no regular file, too large or unreadable."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{path}: not a regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise ImageError(f"{path}: the file has more than {MAX_FILE_BYTES >> 20} MiB")
        return sha256_file(path)
    except OSError as error:
        raise ImageError(f"{path}: can't be read ({error.strerror or error})") from error


def _hash_readable(path: Path, known: Callable[[str], bool]) -> str | ImageError:
    try:
        digest = hash_image(path)
        if not known(digest):
            read_image(path)
        return digest
    except ImageError as error:
        return error


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


def _overlap_notes(items: Sequence[Item], hashes: Sequence[str]) -> Iterator[str]:
    trained = {digest for item, digest in zip(items, hashes, strict=True) if item.split == "train"}
    for split in ("val", "test"):
        count = sum(i.split == split and h in trained for i, h in zip(items, hashes, strict=True))
        if count:
            yield f"{count} images of {split} are in train too (same bytes); results on {split} flatter"


def _fingerprint(root: Path, classes: Sequence[str], items: Sequence[Item], hashes: Sequence[str]) -> str:
    digest = hashlib.sha256(repr(tuple(classes)).encode())
    for item, file_hash in zip(items, hashes, strict=True):
        digest.update(os.fsencode(item.path.relative_to(root).as_posix()))
        digest.update(f"\0{item.class_index}\0{item.split}\0{file_hash}\n".encode())
    return digest.hexdigest()
