"""Figures of a detector on perturbed copies of labelled images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.binomial import clopper_pearson
from ..core.errors import DataError, ImageError
from ..core.images import read_image
from ..core.progress import Progress, silent
from ..core.spec import ModelSpec
from ..core.verdict import Verdict
from .evaluation import closed_metrics, closed_results
from .image_ops import Image
from .perturbations import Perturbation, perturbed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Classify = Callable[[Iterable[Image]], Iterator[Verdict]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The figures of one perturbation. A figure is None if no image of a class that it needs was classified."""

    name: str
    images: int
    macro_auc: float | None
    balanced_accuracy: float | None
    false_alarms: int  # real faces called generator or unknown
    real_faces: int
    false_alarm_rate: float | None
    false_alarm_interval: tuple[float, float] | None  # 95 %, Clopper-Pearson
    not_noticed: float | None  # share of generated faces that raise no alarm
    called_real: float | None  # share of generated faces
    abstained: float  # share of all images

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return asdict(self)


def measure_grid(
    classify: Classify,
    paths: Sequence[Path],
    labels: Sequence[str],
    *,
    grid: Mapping[str, Perturbation],
    spec: ModelSpec,
    progress: Progress = silent,
) -> list[Cell]:
    """Return the figures of each perturbation of a grid on images with their class names.

    Images that can't be read are left out of every cell. Raises DataError if none can be read.
    """
    known = _readable(paths)
    if not known.any():
        raise DataError("none of the images can be read, so nothing can be measured")
    kept = [(path, label) for path, label, good in zip(paths, labels, known, strict=True) if good]
    cells = []
    for position, (name, perturb) in enumerate(grid.items()):
        verdicts = []
        for verdict in classify(_copies(name, perturb, [path for path, _ in kept])):
            verdicts.append(verdict)
            progress("perturbations", position * len(kept) + len(verdicts), len(grid) * len(kept))
        cells.append(_cell(name, verdicts, [label for _, label in kept], spec=spec))
    return cells


def worst_false_alarms(cells: Sequence[Cell]) -> Cell | None:
    """Return the cell with the highest false-alarm rate; None if no cell has real faces."""
    measured = [cell for cell in cells if cell.false_alarm_rate is not None]
    return max(measured, key=lambda cell: cell.false_alarm_rate or 0.0, default=None)


def draw_cells(axes: Axes, cells: Sequence[Cell], title: str) -> None:
    """Draw a heat map: a row per perturbation, a column per figure. Darker is worse."""
    columns = ("macro AUC", "balanced accuracy", "false alarms", "not noticed", "called real", "abstained")
    values = np.array([_values(cell) for cell in cells], np.float64)
    harm = np.column_stack([np.clip((1 - values[:, :2]) * 2, 0, 1), values[:, 2:]])
    axes.imshow(np.nan_to_num(harm), cmap="Reds", vmin=0, vmax=0.6, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(cells)), [cell.name for cell in cells])
    for (row, column), value in np.ndenumerate(values):
        text = "-" if np.isnan(value) else f"{value:.3f}" if column < 2 else f"{100 * value:.0f} %"
        colour = "white" if harm[row, column] > 0.45 else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
    axes.set_title(title, fontsize=10)


def _values(cell: Cell) -> list[float]:
    found = (
        cell.macro_auc, cell.balanced_accuracy, cell.false_alarm_rate, cell.not_noticed, cell.called_real,
        cell.abstained,
    )  # fmt: skip
    return [np.nan if value is None else value for value in found]


def _readable(paths: Sequence[Path]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found = np.zeros(len(paths), bool)
    for i, path in enumerate(paths):
        try:
            read_image(path)
        except ImageError:
            continue
        found[i] = True
    return found


def _copies(name: str, perturb: Perturbation, paths: Sequence[Path]) -> Iterator[Image]:
    for path in paths:
        yield perturbed(name, perturb, read_image(path).pixels)


def _cell(name: str, verdicts: Sequence[Verdict], labels: Sequence[str], *, spec: ModelSpec) -> Cell:
    results = closed_results(verdicts, labels, spec)
    metrics, kinds = closed_metrics(results), np.array(results.kinds)
    alarmed, real = np.isin(kinds, ("generator", "unknown")), results.labels == spec.real_index
    faces, alarms = int(real.sum()), int((alarmed & real).sum())
    return Cell(
        name=name,
        images=len(results.labels),
        macro_auc=metrics.macro_auc,
        balanced_accuracy=metrics.balanced_accuracy,
        false_alarms=alarms,
        real_faces=faces,
        false_alarm_rate=alarms / faces if faces else None,
        false_alarm_interval=clopper_pearson(alarms, faces) if faces else None,
        not_noticed=float((~alarmed[~real]).mean()) if not real.all() else None,
        called_real=float((kinds[~real] == "real").mean()) if not real.all() else None,
        abstained=float((kinds == "abstain").mean()),
    )
