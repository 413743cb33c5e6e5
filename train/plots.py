"""Plots of an evaluation as PNG: confusion matrix, ROC curves, open set and reliability."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import auc, confusion_matrix, roc_curve

from ..core.errors import require
from ..core.exclusive import rewriting
from ..core.files import atomic_write, storage_error
from .evaluation import ClosedResults, OpenResults
from .metrics import ECE_BINS, calibration_bins

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DPI = 120
_STYLES = ("-", "--", ":", "-.")  # line styles for more classes than colours
_CELLS_WITH_NUMBERS = 20  # largest number of classes whose cells have room for numbers


def write_plots(folder: Path, closed: ClosedResults, unseen: OpenResults) -> list[Path]:
    """Write confusion.png, roc.png, reliability.png and, with open images, open_set.png; return the paths in order.

    roc.png needs images of two classes, open_set.png of all classes; otherwise they are not written.

    Raises MissingExtraError without matplotlib, StorageError.
    """
    pictures: dict[str, Callable[[Axes], None]] = {"confusion.png": lambda axes: draw_confusion(axes, closed)}
    if len(closed.class_names) - len(closed.missing) > 1:
        pictures["roc.png"] = lambda axes: draw_roc(axes, closed)
    pictures["reliability.png"] = lambda axes: draw_reliability(axes, closed)
    if len(unseen.log_density) and not closed.missing:
        pictures["open_set.png"] = lambda axes: draw_open_set(axes, closed, unseen)
    rendered = {name: render(draw, len(closed.class_names)) for name, draw in pictures.items()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(folder, error) from error
    with rewriting(folder, ".plots.lock", rendered):
        for name, data in rendered.items():
            atomic_write(folder / name, data)
    return [folder / name for name in rendered]


def draw_confusion(axes: Axes, results: ClosedResults) -> None:
    """Draw the confusion matrix. Rows are true classes and sum to 1; cells show percent."""
    names = results.class_names
    shares = confusion_matrix(results.labels, results.predicted, labels=np.arange(len(names)), normalize="true")
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    if len(names) <= _CELLS_WITH_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set(xlabel="likeliest class", ylabel="true class", title="Confusion, % of each true class")


def draw_roc(axes: Axes, results: ClosedResults) -> None:
    """Draw the one-vs-rest ROC curve of each class that has images."""
    colours = _colours(len(results.class_names))
    areas = []
    for k, name in enumerate(results.class_names):
        if name in results.missing:
            continue
        false_positive, true_positive, _ = roc_curve(results.labels == k, results.probabilities[:, k])
        areas.append(float(auc(false_positive, true_positive)))
        style = _STYLES[(k // len(colours)) % len(_STYLES)]
        label = f"{name}  {areas[-1]:.3f}"
        axes.plot(false_positive, true_positive, style, color=colours[k % len(colours)], label=label, linewidth=1.4)
    macro = "not measured" if results.missing else f"{np.mean(areas):.3f}"
    _finish_roc(axes, f"One class against the rest, macro AUC {macro}")
    axes.set(xlabel="false positive rate", ylabel="true positive rate")


def draw_open_set(axes: Axes, closed: ClosedResults, unseen: OpenResults) -> None:
    """Draw ROC curves of known classes against unseen generators, by probability and by log-density."""
    is_closed = np.r_[np.ones(len(closed.confidence), bool), np.zeros(len(unseen.confidence), bool)]
    scores = {
        "likeliest class's probability": np.r_[closed.confidence, unseen.confidence],
        "log-density": np.r_[closed.log_density, unseen.log_density],
    }
    for name, score in scores.items():
        false_positive, true_positive, _ = roc_curve(is_closed, score)
        label = f"{name}  {auc(false_positive, true_positive):.3f}"
        axes.plot(false_positive, true_positive, linewidth=1.6, label=label)
    axes.plot([0, 1], [0.95, 0.95], color="tab:grey", linewidth=0.8, linestyle="--", label="95 % of known accepted")
    _finish_roc(axes, "Known classes against unseen generators")
    axes.set(xlabel="share of unseen images accepted as known", ylabel="share of known images accepted")


def draw_reliability(axes: Axes, results: ClosedResults) -> None:
    """Draw accuracy over the likeliest class's probability in 15 bins. Bars show the share of images per bin."""
    confidence, right = results.confidence, results.predicted == results.labels
    counts, mean_confidence, accuracy = calibration_bins(confidence, right)
    filled = counts > 0
    edges = np.arange(ECE_BINS) / ECE_BINS
    axes.bar(edges, counts / counts.sum(), 1 / ECE_BINS, align="edge", color="0.85", label="share of images")
    axes.plot([0, 1], [0, 1], color="tab:grey", linewidth=0.8, linestyle=":")
    axes.plot(
        mean_confidence[filled], accuracy[filled], "o-", color="tab:blue", markersize=4, clip_on=False, label="accuracy"
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="probability of the likeliest class", ylabel="accuracy")
    error = float(np.abs(accuracy - mean_confidence)[filled] @ counts[filled] / counts.sum())
    axes.set_title(f"Reliability, expected calibration error {error:.3f}", fontsize=10)
    axes.legend(loc="upper left", fontsize=8, frameon=False)


def _finish_roc(axes: Axes, title: str) -> None:
    axes.plot([0, 1], [0, 1], color="tab:grey", linewidth=0.8, linestyle=":")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.legend(loc="lower right", fontsize=8, frameon=False)


def _colours(count: int) -> list[Any]:
    import matplotlib

    return list(matplotlib.color_sequences["tab10" if count <= 10 else "tab20"])


def render(draw: Callable[[Axes], None], classes: int, *, wide: bool = False) -> bytes:
    """Return a plot as PNG bytes, without pyplot: no window, no state shared with the caller's plots.

    A `wide` plot has room for a legend beside it. Raises MissingExtraError without matplotlib.
    """
    require("matplotlib", "train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = min(6.0 + 0.2 * max(0, classes - 10), 24.0)
    figure = Figure(figsize=(1.5 * side if wide else side, side), layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
