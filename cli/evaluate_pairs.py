"""`leakrt evaluate --pairs`: verdicts on crops beside those on the files that they were cut from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.figures import figure, percent
from .console import ConsoleProgress, coloured, table

if TYPE_CHECKING:
    from ..core.verdict import Verdict
    from ..runtime.detector import Detector
    from ..train.pairs import PairFigures


def measure_pairs(
    folder: Path, detector: Detector, *, crops: Sequence[Verdict], paths: Sequence[Path], labels: Sequence[str]
) -> PairFigures:
    """Classify the largest face of each crop's file in `folder` with `detector`, and compare. Raises DataError."""
    from ..train.pairs import compare_pairs, partners

    files = partners(paths, labels, folder)
    verdicts: list[Verdict | None] = []
    with ConsoleProgress("images") as progress:
        for done, file in enumerate(files, 1):
            verdicts.append(None if file is None else detector.check(file))
            progress("files of the crops", done, len(files))
    return compare_pairs(crops, verdicts, labels, spec=detector.spec)


def pairs_text(found: PairFigures) -> str:
    """Format the figures as aligned lines."""
    low, high = found.same_verdict_interval
    rows: list[tuple[str, ...]] = [
        ("pairs", f"{found.pairs}; {_left_out(found)}"),
        ("same verdict", f"{percent(found.same_verdict)}, {percent(low)} to {percent(high)}"),
        ("same likeliest class", percent(found.same_label)),
    ]
    sides: list[tuple[str, ...]] = [("", "false alarms", "abstained", *(f"AUROC {n}" for n in found.crops.auroc))]
    for name, side in (("crops", found.crops), ("files", found.files)):
        alarms = f"{side.false_alarms} of {side.real_faces}" if side.real_faces else "not measured"
        areas = (figure(area, form=".3f") for area in side.auroc.values())
        sides.append((name, alarms, percent(side.abstained), *areas))
    heading = coloured("files and their crops", "bold")
    return f"{heading}\n{table(rows)}\n\n{table(sides)}"


def _left_out(found: PairFigures) -> str:
    parts = [
        (found.without_partner, "without a file"),
        (found.without_face, "without a face"),
        (found.failed, "unreadable"),
    ]
    return ", ".join(f"{count} {what}" for count, what in parts if count) or "all crops have a file"
