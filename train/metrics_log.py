"""Metrics of each epoch: `metrics.csv`, and TensorBoard's event files if it is installed."""

from __future__ import annotations

import csv
import io
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..core.fields import mistyped
from ..core.files import atomic_write, storage_error

METRICS_FILE, TENSORBOARD_FOLDER = "metrics.csv", "tensorboard"


@dataclass(frozen=True, kw_only=True)
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
    """Rewrites the whole CSV at every epoch, so that a resumed run duplicates no row."""

    def __init__(self, run: Path, rows: Sequence[EpochMetrics]) -> None:
        """Start, or resume after `rows`; later rows are dropped. Raises StorageError."""
        self._path, self._rows = run / METRICS_FILE, list(rows)
        self._write()
        self._events = _open_events(run / TENSORBOARD_FOLDER, purge_step=len(rows) + 1)

    def add(self, row: EpochMetrics) -> None:
        """Write one epoch. Raises StorageError."""
        self._rows.append(row)
        self._write()
        if self._events is not None:
            values = {re.sub("^(train|val)_", r"\1/", name): value for name, value in asdict(row).items()}
            self._events.add({tag: float(value) for tag, value in values.items() if tag != "epoch"}, row.epoch)

    def close(self) -> None:
        """Close TensorBoard's file. Raises StorageError."""
        if self._events is not None:
            self._events.close()

    def _write(self) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, [f.name for f in fields(EpochMetrics)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(r) for r in self._rows)
        atomic_write(self._path, text.getvalue().encode())


def read_metrics(row: Mapping[str, Any]) -> EpochMetrics:
    """A row of a checkpoint. Raises TypeError for unknown fields and wrong types."""
    found = EpochMetrics(**row)
    for problem in mistyped(EpochMetrics, row):
        raise TypeError(problem)
    return found


class _EventFile:
    """A TensorBoard file, written in this thread. SummaryWriter's own thread prints a traceback on a full disk."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        """Start a new file; TensorBoard drops steps from `purge_step` on of earlier files. Raises OSError."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        seconds, rest = divmod(time.time_ns(), 10**9)
        self.path = folder / f"events.out.tfevents.{seconds:010d}.{rest:09d}.{os.getpid()}"
        self._records = RecordWriter(open(self.path, "xb"))  # noqa: SIM115 - closed by `close`
        now = time.time()
        self._records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
        start = Event(wall_time=now, step=purge_step, session_log=SessionLog(status=SessionLog.START))
        self._records.write(start.SerializeToString())

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Write scalars by tag. Raises StorageError."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        try:
            self._records.write(Event(wall_time=time.time(), step=step, summary=summary).SerializeToString())
            self._records.flush()
        except OSError as error:
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        """Close the file. Raises StorageError."""
        try:
            self._records.close()
        except OSError as error:
            raise storage_error(self.path, error) from error


def _open_events(folder: Path, purge_step: int) -> _EventFile | None:
    """None if TensorBoard is not installed."""
    try:
        return _EventFile(folder, purge_step)
    except ImportError:
        return None
    except OSError as error:
        raise storage_error(folder, error) from error
