"""Detection of duplicate pictures in a data set, under two labels or in two splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError
from ..core.images import LeftOut
from .contents import Content, named, nearest
from .split_names import SPLITS, Split


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image of a data set, decoded."""

    path: Path
    label: str
    content: Content
    split: Split


def refuse_two_labels(paths: Sequence[Path], labels: Sequence[str], contents: Sequence[Content]) -> None:
    """Raise DataError, naming both files, if one picture has two labels."""
    first: dict[str, tuple[Path, str]] = {}
    pairs = []
    for path, label, content in zip(paths, labels, contents, strict=True):
        before = first.setdefault(content.pixels, (path, label))
        if before[1] != label:
            pairs.append((before, (path, label)))
    if pairs:
        (one, name), (other, other_name) = pairs[0]
        more = f" ({len(pairs) - 1} more such images)" if len(pairs) > 1 else ""
        raise DataError(
            f"{one} of class {name} and {other} of class {other_name} are the same picture{more}; remove the wrong one"
        )


def repeats(pictures: Sequence[Picture]) -> dict[int, Split]:
    """Return the positions of pictures whose pixels are also in an earlier split, with that split.

    The order is train, val, test. A duplicate belongs only to its earliest split.
    """
    splits: dict[str, Split] = {}
    for split in reversed(SPLITS):
        splits |= {picture.content.pixels: split for picture in pictures if picture.split == split}
    return {
        i: splits[picture.content.pixels]
        for i, picture in enumerate(pictures)
        if splits[picture.content.pixels] != picture.split
    }


def repeat_notes(pictures: Sequence[Picture], found: Mapping[int, Split]) -> tuple[list[LeftOut], list[str]]:
    """Return the pictures found by `repeats` as left-out files, and one note per pair of splits."""
    left_out, by_pair = [], dict[tuple[Split, Split], list[Path]]()
    for i, split in found.items():
        picture = pictures[i]
        left_out.append(LeftOut(picture.path, f"of {picture.split}, also in {split}"))
        by_pair.setdefault((picture.split, split), []).append(picture.path)
    notes = [
        f"left out of {later}: {len(paths)} of its images, whose pixels are also in {split} ({named(paths)})"
        for (later, split), paths in by_pair.items()
    ]
    return left_out, notes


def likeness_notes(pictures: Sequence[Picture]) -> list[str]:
    """Return one note per pair of splits with pictures that look the same, such as at two JPEG qualities."""
    by_split = {split: [picture for picture in pictures if picture.split == split] for split in SPLITS}
    notes = []
    pairs_of_splits: tuple[tuple[Split, Split], ...] = (("val", "train"), ("test", "train"), ("test", "val"))
    for later, split in pairs_of_splits:
        ours, theirs = by_split[later], by_split[split]
        matches = nearest([p.content.look for p in ours], [p.content.look for p in theirs])
        pairs = [(ours[i], theirs[j]) for i, j in enumerate(matches) if j >= 0]
        if pairs:
            notes.append(
                f"{len(pairs)} images of {later} look the same as images of {split} "
                f"({pairs[0][0].path} as {pairs[0][1].path}); the results on {later} will be optimistic"
            )
    return notes
