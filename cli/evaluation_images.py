"""The images of an evaluation, shared by `evaluate` and `evaluate --precision all`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .console import ConsoleProgress, printable

if TYPE_CHECKING:
    from ..core.bundle import Bundle
    from ..core.spec import ModelSpec
    from ..core.verdict import Verdict
    from ..train.labelled import LabelledImages, OpenImages
    from ..train.leakage import Examined, Trained

_FAILURES_SHOWN = 10


@dataclass(frozen=True)
class Chosen:
    """The images of an evaluation, with notes on overlaps with the training images."""

    closed: LabelledImages
    unseen: OpenImages
    examined: Examined

    @property
    def paths(self) -> tuple[Path, ...]:
        """All image files: the closed set, then the open set."""
        return (*self.closed.paths, *self.unseen.paths)


def choose(spec: ModelSpec, trained: Trained, data: Path, *, split: str, open_set: Path | None, cache: Path) -> Chosen:
    """Find the images of an evaluation and print notes on them to stderr. Raises DataError, UsageError."""
    from ..runtime.threads import resolve_threads
    from ..train.contents import ContentCache
    from ..train.evaluation import check_classes
    from ..train.labelled import labelled_images, open_images
    from ..train.leakage import examine

    closed, unseen = labelled_images(data, split), open_images(open_set, known=spec.class_names)
    check_classes(closed.labels, spec)
    with ConsoleProgress("images") as progress:
        examined = examine(
            closed,
            unseen,
            trained,
            cache=ContentCache(cache),
            split=split,
            threads=resolve_threads(0),
            progress=progress,
        )
    for note in examined.notes:
        print(f"leakrt: note: {printable(note)}", file=sys.stderr)
    return Chosen(closed, unseen, examined)


def trained_bundle(bundle: Bundle) -> Trained:
    """Return the record of a bundle's training images."""
    from ..train.leakage import Trained

    return Trained.of_bundle(bundle.training_images())


def tell_failures(verdicts: Sequence[Verdict]) -> None:
    """Print the first images that failed to stderr."""
    failed = [v for v in verdicts if v.error is not None]
    for verdict in failed[:_FAILURES_SHOWN]:
        print(f"leakrt: error: {printable(verdict.error or '')}", file=sys.stderr)
    if len(failed) > _FAILURES_SHOWN:
        print(f"leakrt: {len(failed) - _FAILURES_SHOWN} more images failed", file=sys.stderr)
