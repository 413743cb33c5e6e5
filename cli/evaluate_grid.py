"""`leakrt evaluate --robustness` and `--cameras`: figures on perturbed copies of the images."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.figures import figure, percent
from .console import ConsoleProgress, coloured, printable, table

if TYPE_CHECKING:
    from ..core.decision import Decision
    from ..core.spec import ModelSpec
    from ..train.robustness import Cell, Classify


def measure_grids(
    grids: Sequence[str], classify: Classify, paths: Sequence[Path], *, labels: Sequence[str], spec: ModelSpec
) -> dict[str, list[Cell]]:
    """Return the cells of each named grid, with progress on stderr. Raises DataError."""
    from ..train.perturbations import GRIDS
    from ..train.robustness import measure_grid

    found = {}
    for name in grids:
        with ConsoleProgress("images") as progress:
            found[name] = measure_grid(classify, paths, labels, grid=GRIDS[name], spec=spec, progress=progress)
    return found


def grids_text(grids: Mapping[str, Sequence[Cell]], decision: Decision) -> str:
    """Format each grid as a table, and name the perturbation with the most false alarms."""
    return "\n\n".join(_grid_text(name, cells, decision) for name, cells in grids.items())


def write_heat_maps(folder: Path, grids: Mapping[str, Sequence[Cell]]) -> None:
    """Write FOLDER/GRID.png for each grid. Raises MissingExtraError without matplotlib, StorageError."""
    from ..core.files import atomic_write, make_folder

    make_folder(folder)
    for name, cells in grids.items():
        atomic_write(folder / f"{name}.png", heat_map(name, cells))
        print(f"wrote {printable(str(folder / f'{name}.png'))}", file=sys.stderr)


def heat_map(name: str, cells: Sequence[Cell]) -> bytes:
    """Return the heat map of a grid as PNG."""
    from ..train.plots import render
    from ..train.robustness import draw_cells

    return render(lambda axes: draw_cells(axes, cells, name.capitalize()), len(cells), wide=True)


def _grid_text(name: str, cells: Sequence[Cell], decision: Decision) -> str:
    from ..train.robustness import worst_false_alarms

    head = (name, "AUC", "balanced", "false alarms", "95 % interval", "not noticed", "called real", "abstained")
    rows = [head, *map(_row, cells)]
    worst, stated = worst_false_alarms(cells), percent(decision.false_alarm_rate)
    last = "false alarms: not measured, no real face was classified"
    if worst is not None:
        last = f"most false alarms: {worst.name}, {percent(worst.false_alarm_rate)} at a stated {stated}"
    return f"{coloured(name, 'bold')}\n{table(rows)}\n{last}"


def _row(cell: Cell) -> tuple[str, ...]:
    interval = cell.false_alarm_interval
    return (
        cell.name,
        figure(cell.macro_auc),
        figure(cell.balanced_accuracy, form=".3f"),
        percent(cell.false_alarm_rate),
        "" if interval is None else f"{percent(interval[0])} to {percent(interval[1])}",
        percent(cell.not_noticed),
        percent(cell.called_real),
        percent(cell.abstained),
    )
