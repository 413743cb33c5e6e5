"""What folder names mean: splits, and the labels that collections of generated images put below a maker."""

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
_UNCLEAR = frozenset({"eval", "evaluation"})  # val to some, test to others
_LABELS: dict[str, Label] = {"0_real": "real", "1_fake": "generated"}  # no other folder is called that
_LABEL_PAIRS: tuple[dict[str, Label], ...] = (
    {"nature": "real", "ai": "generated"},
    {"real": "real", "fake": "generated"},
)


def label_of(name: str) -> Label | None:
    """The label that a folder of that name, in any case, has by itself; None for another name.

    `nature` may be a subject, so it is a label only beside `ai`; see `label_folders`.
    """
    return {**_LABELS, "real": "real", "fake": "generated", "ai": "generated"}.get(name.lower())


def plain_name(name: str) -> str:
    """A folder's name without what two names may differ in and still look alike: case, outer spaces, Unicode form."""
    return unicodedata.normalize("NFKC", name).casefold().strip()


def split_of(name: str) -> Split | None:
    """The split that a folder name or a key of Split.json means, in any case; None for another name."""
    return next((split for split, names in _NAMES.items() if name.lower() in names), None)


def label_folders(folders: Iterable[Path]) -> dict[Path, Label]:
    """Which of the folders beside each other are labels below a maker.

    Those are `0_real` and `1_fake`; `nature` with `ai`, and `real` with `fake`, only as a pair. `real` alone is one,
    too: in a class of generated images it would be learned as generated.
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
    """Which of the folders beside each other are splits: two or more of them, or all there are.

    Raises DataError for two that mean one split, and for `eval` beside another split.
    """
    folders = list(folders)
    found = {folder: split for folder in folders if (split := split_of(folder.name)) is not None}
    unclear = [folder for folder in folders if folder.name.lower() in _UNCLEAR]
    if found and unclear:
        raise DataError(f"{unclear[0]} may mean val or test; rename it to the one that it is")
    by_split: dict[Split, Path] = {}
    for folder, split in found.items():
        if split in by_split:
            raise DataError(f"{by_split[split]} and {folder} both mean {split}; merge them or rename one")
        by_split[split] = folder
    return found if len(found) > 1 or len(found) == len(folders) else {}
