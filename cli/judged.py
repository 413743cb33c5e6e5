"""What the two ways of evaluating share: a bundle's labelled images, and those that could not be judged."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .console import ConsoleProgress, printable

if TYPE_CHECKING:
    from ..core.bundle import Bundle
    from ..core.progress import Progress
    from ..core.verdict import Verdict
    from ..train.labelled import LabelledImages
    from ..train.leakage import Seen

_FAILURES_SHOWN = 10


def bundle_images(bundle: Bundle, data: Path, split: str) -> LabelledImages:
    """The closed images of a bundle."""
    from ..train.evaluation import check_classes
    from ..train.labelled import labelled_images

    images = labelled_images(data, split)
    check_classes(images.labels, bundle.spec)
    return images


def bundle_seen(bundle: Bundle, paths: Sequence[Path], progress: Progress) -> Seen | None:
    """Which images a bundle's detector was trained or fitted on; None if the bundle does not say."""
    from ..core.files import cache_folder
    from ..runtime.threads import resolve_threads
    from ..train.fingerprints import FingerprintCache, identify
    from ..train.leakage import RECORD_FILE, TrainingRecord

    if not bundle.has(RECORD_FILE):
        return None
    record = TrainingRecord.from_bytes(bundle.read(RECORD_FILE))
    return record.seen(identify(paths, FingerprintCache(cache_folder() / "latents"), resolve_threads(0), progress))


def tell_leaks(
    seen: Callable[[Sequence[Path], Progress], Seen | None], closed: Sequence[Path], unseen: Sequence[Path], split: str
) -> None:
    """Print a note on stderr if the detector was trained or fitted on images that it is evaluated on.

    Nothing is printed of closed images of `train` and `val`, which it was.
    """
    from ..train.leakage import UNRECORDED

    with ConsoleProgress("images") as progress:
        found = seen([*closed, *unseen], progress)
    if found is None:
        print(f"leakrt: note: {UNRECORDED}", file=sys.stderr)
        return
    expected = split in ("train", "val")
    notes = [None if expected else found.part(0, len(closed)).note("these images")]
    notes.append(found.part(len(closed), len(closed) + len(unseen)).note("the open images"))
    for note in filter(None, notes):
        print(f"leakrt: note: {note}", file=sys.stderr)


def tell_failures(verdicts: Sequence[Verdict]) -> None:
    """Name the first images that could not be judged, on stderr."""
    failed = [v for v in verdicts if v.error is not None]
    for verdict in failed[:_FAILURES_SHOWN]:
        print(f"leakrt: error: {printable(verdict.error or '')}", file=sys.stderr)
    if len(failed) > _FAILURES_SHOWN:
        print(f"leakrt: {len(failed) - _FAILURES_SHOWN} more images could not be judged", file=sys.stderr)
