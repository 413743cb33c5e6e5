"""Meaning of folder names: splits, and labels below a maker in collections of generated images."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from ..core.errors import DataError

Split = Literal["train", "val", "test"]
Label = Literal["real", "generated"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_UNCLEAR = frozenset({"eval", "evaluation"})  # means val in some data sets and test in others
_LABELS: dict[str, Label] = {"0_real": "real", "1_fake": "generated"}  # unambiguous names
_LABEL_PAIRS: tuple[dict[str, Label], ...] = (
    {"nature": "real", "ai": "generated"},
    {"real": "real", "fake": "generated"},
)


def label_of(name: str) -> Label | None:
    """Return the label that a folder name, in any case, means by itself; None for another name.

    `nature` can be an ordinary class, so it is a label only beside `ai`; see `label_folders`.
    """
    return {**_LABELS, "real": "real", "fake": "generated", "ai": "generated"}.get(name.lower())


def plain_name(name: str) -> str:
    """Normalise case, outer spaces and Unicode form, so that names that look alike compare equal."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def split_of(name: str) -> Split | None:
    """Return the split that a folder name or key of Split.json means, in any case; None for another name."""
    return next((split for split, names in _NAMES.items() if name.lower() in names), None)


def label_folders(folders: Iterable[Path]) -> dict[Path, Label]:
    """Return the folders among siblings that are labels below a maker.

    These are `0_real` and `1_fake`, and the pairs `nature` with `ai` and `real` with `fake`. A single `real` is also a
    label: otherwise its images would be learned as the generated class around it.
    """
    named = {folder: folder.name.lower() for folder in folders}
    present = set(named.values())
    known = dict(_LABELS)
    for pair in _LABEL_PAIRS:
        if pair.keys() <= present:
            known |= pair
    if present == {"real"}:
        known["real"] = "real"
    return {folder: known[name] for folder, name in named.items() if name in known}


def split_folders(folders: Iterable[Path]) -> dict[Path, Split]:
    """Return the folders among siblings that are splits, if there are at least two or all siblings are.

    Raises DataError if two mean the same split, or for `eval` beside another split.
    """
    folders = list(folders)
    found = {folder: split for folder in folders if (split := split_of(folder.name)) is not None}
    unclear = [folder for folder in folders if folder.name.lower() in _UNCLEAR]
    if found and unclear:
        raise DataError(f"{unclear[0]} could mean val or test; rename it to one of them")
    by_split: dict[Split, Path] = {}
    for folder, split in found.items():
        if split in by_split:
            raise DataError(f"{by_split[split]} and {folder} both mean {split}; merge them or rename one")
        by_split[split] = folder
    return found if len(found) > 1 or len(found) == len(folders) else {}
