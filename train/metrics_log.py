"""Metrics of each epoch: `metrics.csv`, and TensorBoard's event files where it is installed."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..core.files import atomic_write

METRICS_FILE, TENSORBOARD_FOLDER = "metrics.csv", "tensorboard"


@dataclass(frozen=True)
class EpochMetrics:
    """One row of metrics.csv."""

    epoch: int  # from 1
    learning_rate: float  # at its last step
    train_loss: float
    val_loss: float
    val_macro_auc: float
    val_balanced_accuracy: float
    val_top1: float


class MetricsLog:
    """Rewrites the CSV whole at every epoch, so that a resumed run doubles no row."""

    def __init__(self, run: Path, rows: Sequence[EpochMetrics]) -> None:
        """Begin, or go on after `rows`; what is logged beyond them is dropped. Raises StorageError."""
        self._path, self._rows = run / METRICS_FILE, list(rows)
        self._write()
        self._writer = _tensorboard(run / TENSORBOARD_FOLDER, purge_step=len(rows) + 1)

    def add(self, row: EpochMetrics) -> None:
        """Write one epoch. Raises StorageError."""
        self._rows.append(row)
        self._write()
        for name, value in asdict(row).items():
            if self._writer is not None and name != "epoch":
                self._writer.add_scalar(re.sub("^(train|val)_", r"\1/", name), value, row.epoch)

    def close(self) -> None:
        """Flush TensorBoard's file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, [f.name for f in fields(EpochMetrics)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(r) for r in self._rows)
        atomic_write(self._path, text.getvalue().encode())


def read_metrics(rows: Sequence[Mapping[str, Any]]) -> list[EpochMetrics]:
    """Rows as a checkpoint keeps them. Raises TypeError for foreign fields."""
    return [EpochMetrics(**row) for row in rows]


def _tensorboard(folder: Path, purge_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # an option, not a need
        return None
    return SummaryWriter(str(folder), purge_step=purge_step)
