"""Checks for leakage: evaluation images that were trained on, and duplicates among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.images import LeftOut, left_out_note
from ..core.progress import Progress, silent
from ..core.training_images import TrainingImages
from .contents import ContentCache, Seen, named, nearest, see_images
from .labelled import LabelledImages, OpenImages
from .repeats import refuse_two_labels
from .run import Run


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Records of a detector's training images."""

    pixels: TrainingImages | None  # None if not recorded
    looks: tuple[str, ...] = ()  # perceptual hashes
    paths: tuple[str, ...] = ()  # one per look; empty if not recorded, as in a bundle
    digests: frozenset[str] = frozenset()  # SHA-256 of the files

    @classmethod
    def of_run(cls, run: Run) -> Trained:
        """Return the records of a run."""
        items = run.of("train")
        whole = all(item.pixels for item in items)
        return cls(
            pixels=record_of(run) if whole else None,
            looks=tuple(item.look for item in items),
            paths=tuple(item.path for item in items),
            digests=frozenset(item.digest for item in items),
        )

    @classmethod
    def of_bundle(cls, record: TrainingImages | None) -> Trained:
        """Return the records of a bundle."""
        return cls(pixels=record, looks=record.looks if record else ())


def record_of(run: Run) -> TrainingImages:
    """Return the record of training images for a bundle of the run."""
    train = run.of("train")
    return TrainingImages.of(
        (item.pixels for item in train),
        validation=(item.pixels for item in run.of("val") if item.pixels),
        looks=(item.look for item in train),
    )


@dataclass(frozen=True, kw_only=True)
class Examined:
    """Findings on the images of an evaluation."""

    notes: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    trained_on: int | None  # number of closed and open images that were trained on; None if unknown

    def to_json(self) -> dict[str, Any]:
        """Return entries for the JSON object of an evaluation."""
        return {"trained_on": self.trained_on, "left_out": [one.to_json() for one in self.left_out]}


def examine(
    closed: LabelledImages,
    unseen: OpenImages,
    trained: Trained,
    *,
    cache: ContentCache,
    split: str,
    threads: int,
    progress: Progress = silent,
) -> Examined:
    """Compare evaluation images with training images and with each other, by decoded pixels.

    Unreadable images are skipped. Raises DataError for one picture under two labels, StorageError.
    """
    paths = (*closed.paths, *unseen.paths)
    seen = dict(zip(paths, see_images(paths, cache, threads=threads, progress=progress), strict=True))
    known = _trained_on(seen, trained)
    labels = dict(zip(closed.paths, closed.labels, strict=True))
    readable = [(path, one) for path in closed.paths if isinstance(one := seen[path], Seen)]
    refuse_two_labels(
        [path for path, _ in readable], [labels[path] for path, _ in readable], [one.content for _, one in readable]
    )
    notes = [*closed.notes]
    left_out = (*closed.left_out, *unseen.left_out)
    if left_out:
        notes.append(left_out_note(left_out))
    if trained.pixels is None:
        how = "only identical files are detected" if trained.digests else "it does not record them"
        notes.append(f"can't check whether the model was trained on these images: {how}; train and export it again")
    in_closed = [path for path in closed.paths if path in known] if split != "train" else []
    in_open = [path for path in unseen.paths if path in known]
    if in_closed:
        notes.append(f"the model was trained on {len(in_closed)} of these images ({named(in_closed)}); {_OPTIMISTIC}")
    if in_open:
        notes.append(
            f"the model was trained on {len(in_open)} images of --open ({named(in_open)}), so they are not unseen"
        )
    fitted = _fitted_on(seen, trained) if split not in ("train", "val") else []
    if fitted:
        notes.append(f"the thresholds were fitted on {len(fitted)} of these images ({named(fitted)}); {_OPTIMISTIC}")
    both = _open_in_closed(closed.paths, unseen.paths, seen)
    if both:
        notes.append(f"{len(both)} images of --open are also in DATA ({named(both)}), so they are not unseen")
    if split != "train":
        notes += _similarity_notes(paths, seen, known, trained=trained)
    unknown = trained.pixels is None and not trained.digests
    return Examined(notes=tuple(notes), left_out=left_out, trained_on=None if unknown else len(known))


_OPTIMISTIC = "the results will be optimistic"


def _trained_on(seen: dict[Path, Any], trained: Trained) -> set[Path]:
    readable = {path: one for path, one in seen.items() if isinstance(one, Seen)}
    found = {path for path, one in readable.items() if one.digest in trained.digests}
    if trained.pixels is not None and readable:
        same = trained.pixels.contains([one.content.pixels for one in readable.values()])
        found |= {path for path, match in zip(readable, same, strict=True) if match}
    return found


def _fitted_on(seen: dict[Path, Any], trained: Trained) -> list[Path]:
    """Return the images that are validation images of the detector."""
    readable = {path: one for path, one in seen.items() if isinstance(one, Seen)}
    if trained.pixels is None or not readable:
        return []
    same = trained.pixels.fitted_on([one.content.pixels for one in readable.values()])
    return [path for path, match in zip(readable, same, strict=True) if match]


def _open_in_closed(closed: Sequence[Path], unseen: Sequence[Path], seen: dict[Path, Any]) -> list[Path]:
    pixels = {one.content.pixels for path in closed if isinstance(one := seen[path], Seen)}
    return [path for path in unseen if isinstance(one := seen[path], Seen) and one.content.pixels in pixels]


def _similarity_notes(paths: Sequence[Path], seen: dict[Path, Any], known: set[Path], *, trained: Trained) -> list[str]:
    """Return a note on images that look like training images, such as copies at another JPEG quality."""
    rest = [path for path in dict.fromkeys(paths) if path not in known and isinstance(seen[path], Seen)]
    matches = nearest([seen[path].content.look for path in rest], trained.looks)
    pairs = [(path, j) for path, j in zip(rest, matches, strict=True) if j >= 0]
    if not pairs:
        return []
    path, j = pairs[0]
    example = f"{path} as {trained.paths[j]}" if trained.paths else str(path)
    return [f"{len(pairs)} images look the same as training images ({example}); {_OPTIMISTIC}"]
