"""The figures of an evaluation, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .console import coloured, printable, table

if TYPE_CHECKING:
    from ..train.evaluation import Evaluation


def evaluation_text(result: Evaluation) -> str:
    """All figures of an evaluation as aligned lines."""
    sections = [("closed set", _closed(result)), ("decision", _decision(result))]
    if result.open is not None:
        sections.append(("open set", _open_set(result)))
    parts = [f"{coloured(title, 'bold')}\n{table(rows)}" for title, rows in sections]
    return "\n\n".join([*parts, _per_class(result)])


def _closed(result: Evaluation) -> list[tuple[str, ...]]:
    closed = result.closed
    return [
        ("images", str(closed.images)),
        ("macro AUC", f"{closed.macro_auc:.4f}"),
        ("balanced accuracy", f"{closed.balanced_accuracy:.4f}"),
        ("top-1", f"{closed.top1:.4f}"),
        ("calibration error", f"{closed.ece:.4f}"),
        ("verdicts", ", ".join(f"{count} {kind}" for kind, count in closed.verdicts.items())),
    ]


def _decision(result: Evaluation) -> list[tuple[str, ...]]:
    d = result.decision
    inside = "inside" if d.inside_interval else "OUTSIDE"
    return [
        ("false alarms", f"{d.false_alarm_count} of {d.real_faces} real faces, {_percent(d.false_alarm_rate)}"),
        (
            "",
            f"stated {_percent(d.false_alarm_target)}; {inside} its 95 % interval, {d.interval[0]} to {d.interval[1]}",
        ),
        ("coverage", f"{_percent(d.coverage)} of all, {_percent(d.coverage_real)} of real faces"),
        (
            "generated faces",
            f"{_percent(d.generated_called_generated)} called generated, {_percent(d.generated_called_real)} real",
        ),
    ]


def _open_set(result: Evaluation) -> list[tuple[str, ...]]:
    unseen = result.open
    assert unseen is not None
    return [
        ("images", str(unseen.images)),
        ("AUROC", f"{unseen.auroc:.4f} by probability, {unseen.auroc_density:.4f} by log-density"),
        ("FPR at 95 %", f"{unseen.fpr95:.4f}"),
        ("OSCR", f"{unseen.oscr:.4f}"),
        ("called", f"generated {_percent(unseen.called_generated)}, real {_percent(unseen.called_real)}"),
    ]


def _per_class(result: Evaluation) -> str:
    """AUC and recall of each class, and what it is taken for most often."""
    closed = result.closed
    names = list(closed.per_class_auc)
    rows: list[tuple[str, ...]] = [("class", "AUC", "recall", "most often taken for")]
    for k, name in enumerate(names):
        row = closed.confusion[k]
        others = [(count, other) for other, count in enumerate(row) if other != k and count]
        taken = f"{printable(names[max(others)[1]])} ({max(others)[0]})" if others else ""
        rows.append((printable(name), f"{closed.per_class_auc[name]:.4f}", f"{row[k] / sum(row):.3f}", taken))
    return table(rows)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
