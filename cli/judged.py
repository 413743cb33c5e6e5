"""What the two ways of evaluating share: a bundle's labelled images, and those that could not be judged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .console import printable

if TYPE_CHECKING:
    from ..core.bundle import Bundle
    from ..core.verdict import Verdict
    from ..train.labelled import LabelledImages

_FAILURES_SHOWN = 10


def bundle_images(bundle: Bundle, data: Path, split: str) -> LabelledImages:
    """The closed images of a bundle."""
    from ..train.evaluation import check_classes
    from ..train.labelled import labelled_images

    images = labelled_images(data, split)
    check_classes(images.labels, bundle.spec)
    return images


def tell_failures(verdicts: Sequence[Verdict]) -> None:
    """Name the first images that could not be judged, on stderr."""
    failed = [v for v in verdicts if v.error is not None]
    for verdict in failed[:_FAILURES_SHOWN]:
        print(f"leakrt: error: {printable(verdict.error or '')}", file=sys.stderr)
    if len(failed) > _FAILURES_SHOWN:
        print(f"leakrt: {len(failed) - _FAILURES_SHOWN} more images could not be judged", file=sys.stderr)
