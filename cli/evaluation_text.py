"""The figures of an evaluation as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.figures import figure, percent
from .console import coloured, printable, table

if TYPE_CHECKING:
    from ..train.evaluation import Evaluation


def evaluation_text(result: Evaluation) -> str:
    """Format all figures of an evaluation as aligned lines."""
    sections = [("closed set", _closed(result)), ("decision", _decision(result))]
    if result.open is not None:
        sections.append(("open set", _open_set(result)))
    parts = [f"{coloured(title, 'bold')}\n{table(rows)}" for title, rows in sections]
    why = [f"not measured: {printable(result.not_measured)}"] if result.missing else []
    return "\n\n".join([*parts, _per_class(result), *why])


def _closed(result: Evaluation) -> list[tuple[str, ...]]:
    closed = result.closed
    return [
        ("images", str(closed.images)),
        ("macro AUC", figure(closed.macro_auc)),
        ("balanced accuracy", figure(closed.balanced_accuracy)),
        ("top-1", f"{closed.top1:.4f}"),
        ("calibration error", f"{closed.ece:.4f}"),
        ("verdicts", ", ".join(f"{count} {kind}" for kind, count in closed.verdicts.items())),
    ]


def _decision(result: Evaluation) -> list[tuple[str, ...]]:
    d = result.decision
    generated = (
        f"{percent(d.generated_called_generated)} classified as generated, {percent(d.generated_called_real)} as real"
    )
    rows: list[tuple[str, ...]] = [
        ("false alarms", f"{d.false_alarm_count} of {d.real_faces} real faces, {percent(d.false_alarm_rate)}"),
        ("coverage", f"{percent(d.coverage)} of all, {percent(d.coverage_real)} of real faces"),
        ("generated faces", "not measured" if d.generated_called_generated is None else generated),
    ]
    if d.interval is None:
        rows[0] = ("false alarms", "not measured: no real face was classified")
        return rows
    inside = "inside" if d.inside_interval else "OUTSIDE"
    low, high = d.interval
    rows.insert(1, ("", f"target {percent(d.false_alarm_target)}; {inside} its 95 % interval, {low} to {high}"))
    return rows


def _open_set(result: Evaluation) -> list[tuple[str, ...]]:
    unseen = result.open
    assert unseen is not None
    return [
        ("images", str(unseen.images)),
        ("AUROC", f"{figure(unseen.auroc)} by probability, {figure(unseen.auroc_density)} by log-density"),
        ("FPR at 95 %", figure(unseen.fpr95)),
        ("AUROC from real", f"{figure(unseen.auroc_real)} by P(generated)"),
        ("OSCR", figure(unseen.oscr)),
        ("classified as", f"generated {percent(unseen.called_generated)}, real {percent(unseen.called_real)}"),
    ]


def _per_class(result: Evaluation) -> str:
    """Format AUC, recall and the most frequent confusion of each class."""
    closed = result.closed
    names = list(closed.per_class_auc)
    rows: list[tuple[str, ...]] = [("class", "AUC", "recall", "most confused with")]
    for k, name in enumerate(names):
        row = closed.confusion[k]
        others = [(count, other) for other, count in enumerate(row) if other != k and count]
        confused = f"{printable(names[max(others)[1]])} ({max(others)[0]})" if others else ""
        recall = figure(closed.recall[name], form=".3f")
        rows.append((printable(name), figure(closed.per_class_auc[name]), recall, confused))
    return table(rows)
