"""Leakage: one picture under two labels, in two splits, or among what a detector was trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.arrays import read_npz, write_npz
from ..core.errors import BundleError, DataError
from .fingerprints import ALIKE, Fingerprint, Identity, Looks, looks, nearest
from .layout import SPLITS, Split

RECORD_FILE = "training.npz"
UNRECORDED = "the bundle does not record its training images, so it is not known whether these are among them"

_NAMED = 3  # examples in one message
_PREFIX = 16  # hex digits of a picture's hash that a record keeps


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """A picture of a data set."""

    path: Path
    label: str
    split: Split
    fingerprint: Fingerprint


def refuse_two_labels(pictures: Sequence[Labelled]) -> None:
    """Raises DataError naming both files where one picture, by its pixels, has two labels."""
    first: dict[str, Labelled] = {}
    pairs = []
    for picture in pictures:
        other = first.setdefault(picture.fingerprint.pixels, picture)
        if other.label != picture.label:
            pairs.append(f"{other.path} ({other.label}) = {picture.path} ({picture.label})")
    if pairs:
        raise DataError(f"{_count(pairs, 'picture')} under two labels: {_examples(pairs)}; remove the wrong ones")


def across_splits(pictures: Sequence[Labelled]) -> dict[int, Labelled]:
    """Pictures of val and test whose pixels are in an earlier split too: position to the picture there."""
    found: dict[int, Labelled] = {}
    seen: dict[str, Labelled] = {}
    for split in SPLITS:
        here = [(i, picture) for i, picture in enumerate(pictures) if picture.split == split]
        found |= {i: seen[p.fingerprint.pixels] for i, p in here if p.fingerprint.pixels in seen}
        for _, p in here:
            seen.setdefault(p.fingerprint.pixels, p)
    return found


def repeated_message(pictures: Sequence[Labelled], repeated: Mapping[int, Labelled]) -> str:
    """What `across_splits` found, with examples."""
    pairs = [
        f"{pictures[i].path} ({pictures[i].split}) = {other.path} ({other.split})" for i, other in repeated.items()
    ]
    return f"{_count(pairs, 'picture')} in two splits: {_examples(pairs)}"


def alike_notes(pictures: Sequence[Labelled]) -> Iterator[str]:
    """A note for val and for test, where they hold re-encoded or resized pictures of an earlier split."""
    for position, split in enumerate(SPLITS[1:], 1):
        here = [p for p in pictures if p.split == split]
        before = [p for p in pictures if p.split in SPLITS[:position]]
        if not here or not before:
            continue
        indices, distances = nearest(looks(p.fingerprint for p in here), looks(p.fingerprint for p in before))
        pairs = [
            f"{p.path} and {before[i].path} ({before[i].split})"
            for p, i, apart in zip(here, indices, distances, strict=True)
            if apart <= ALIKE
        ]
        if pairs:
            count = f"{len(pairs)} images of {split} look like images of an earlier split"
            yield f"{count}: {_examples(pairs)}; results on {split} will be optimistic"


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Which pictures a detector was trained and its thresholds were fitted on: `training.npz` of a bundle.

    Pictures are hashes here: they can be recognised, and not be seen.
    """

    pixels: npt.NDArray[np.uint64]  # [N] first 8 bytes of each picture's hash, sorted
    looks: Looks  # [N, 32]

    @classmethod
    def of(cls, fingerprints: Sequence[Fingerprint]) -> TrainingRecord:
        """The record of pictures."""
        prefixes = np.array([int(each.pixels[:_PREFIX], 16) for each in fingerprints], np.uint64)
        order = np.argsort(prefixes, kind="stable")
        return cls(pixels=prefixes[order], looks=looks(fingerprints)[order])

    def seen(self, found: Sequence[Identity | Any]) -> Seen:
        """Which of the pictures were trained on; what is no Identity counts as not seen."""
        known = [(i, each.fingerprint) for i, each in enumerate(found) if isinstance(each, Identity)]
        prefixes = np.array([int(each.pixels[:_PREFIX], 16) for _, each in known], np.uint64)
        same = np.isin(prefixes, self.pixels)
        alike = np.zeros(len(known), bool)
        if len(known) and len(self.looks):
            alike = (nearest(looks(each for _, each in known), self.looks)[1] <= ALIKE) & ~same
        positions = np.array([i for i, _ in known], np.int64)
        return Seen(same=tuple(positions[same].tolist()), alike=tuple(positions[alike].tolist()))

    def to_bytes(self) -> bytes:
        """The npz file."""
        return write_npz({"pixels": self.pixels, "looks": self.looks})

    @classmethod
    def from_bytes(cls, data: bytes) -> TrainingRecord:
        """Read what `to_bytes` wrote. Raises BundleError."""
        arrays = read_npz(data, RECORD_FILE)
        pixels, found = arrays.get("pixels", np.empty(0)), arrays.get("looks", np.empty(0))
        if pixels.dtype != np.uint64 or pixels.ndim != 1 or found.dtype != np.uint8 or found.shape != (len(pixels), 32):
            raise BundleError(f"{RECORD_FILE} is not a record of training images; export the bundle again")
        return cls(pixels=pixels, looks=found)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Positions of pictures that were trained on."""

    same: tuple[int, ...]  # by their pixels
    alike: tuple[int, ...]  # re-encoded or resized, by their look

    def part(self, begin: int, end: int) -> Seen:
        """Those at the positions from `begin` to before `end`."""
        within = [tuple(i for i in positions if begin <= i < end) for positions in (self.same, self.alike)]
        return Seen(same=within[0], alike=within[1])

    def note(self, what: str) -> str | None:
        """A line about them, `what` being such as "these images"; None if there are none."""
        parts = [f"{len(self.same)} of {what}"] if self.same else []
        if self.alike:
            parts.append(f"re-encoded or resized copies of {len(self.alike)} of {'them' if parts else what}")
        if not parts:
            return None
        return f"the detector was trained or fitted on {' and on '.join(parts)}; the results will be optimistic"


def seen_files(found: Sequence[Identity | Any], digests: Collection[str]) -> Seen:
    """Which files were trained on, by the hash of their bytes: for runs that did not record what images show."""
    same = [i for i, each in enumerate(found) if isinstance(each, Identity) and each.digest in digests]
    return Seen(same=tuple(same), alike=())


def _count(found: Sequence[str], noun: str) -> str:
    return f"{len(found)} {noun}{'s are' if len(found) > 1 else ' is'}"


def _examples(found: Sequence[str]) -> str:
    rest = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(found[:_NAMED]) + rest
