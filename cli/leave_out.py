"""`leakrt evaluate --leave-out`: how a run judges makers that it was not trained on."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from ..core.figures import figure, percent
from .console import ConsoleProgress, printable, table

if TYPE_CHECKING:
    from ..train.leave_out import LeftOutMaker


def evaluate_leave_out(model: Path, data: Path, split: str, *, choice: str, json: bool) -> int:
    """Train without each chosen class, evaluate on it, and print a row per class. Raises UsageError for a bundle."""
    from ..core.errors import UsageError
    from ..train.labelled import labelled_images
    from ..train.leave_out import leave_out, makers_to_leave_out
    from ..train.run import Run

    if not (model / "run.json").is_file():
        raise UsageError("--leave-out trains again without a class, so it takes a run; pass the run of the bundle")
    run = Run.open(model)
    run.require_finished()
    images = labelled_images(data, split)
    found = []
    for name in makers_to_leave_out(run, choice):
        print(f"training without {printable(name)}", file=sys.stderr)
        with ConsoleProgress("images") as progress:
            found.append(leave_out(run, name, images, progress=progress))
    print(json_module.dumps(_json(found), ensure_ascii=False) if json else _text(found))
    return 0


def _text(found: Sequence[LeftOutMaker]) -> str:
    rows: list[tuple[str, ...]] = [
        ("left out", "images", "AUROC from real", "called real", "called generated", "OSCR", "false alarms")
    ]
    rows += [
        (
            printable(row.name),
            str(row.images),
            figure(row.auroc),
            percent(row.called_real),
            percent(row.called_generated),
            figure(row.oscr),
            percent(row.false_alarm_rate),
        )
        for row in found
    ]
    if len(found) > 1:
        averages = _averages(found)
        shares = [percent(averages[name]) for name in ("called_real", "called_generated")]
        rows.append(("mean", "", figure(averages["auroc"]), *shares, figure(averages["oscr"]), ""))
    return table(rows)


def _json(found: Sequence[LeftOutMaker]) -> dict[str, object]:
    return {"left_out": [row.to_json() for row in found], "mean": _averages(found)}


def _averages(found: Sequence[LeftOutMaker]) -> dict[str, float | None]:
    """Return the mean of each figure over the makers; None if one of them was not measured."""
    names = ("auroc", "auroc_density", "oscr", "called_real", "called_generated")
    columns = {name: [getattr(row, name) for row in found] for name in names}
    return {name: None if None in values else mean(values) for name, values in columns.items()}
