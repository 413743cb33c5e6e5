"""metrics.csv and TensorBoard's files: whole after a resume, and nothing in them twice."""

from __future__ import annotations

import csv
import sys

import pytest

from leakrt.core.errors import StorageError
from leakrt.train.metrics_log import METRICS_FILE, TENSORBOARD_FOLDER, EpochMetrics, MetricsLog, read_metrics

TAGS = {"learning_rate", "train/loss", "val/loss", "val/macro_auc", "val/balanced_accuracy", "val/top1"}


def row(epoch: int, loss: float = 0.5) -> EpochMetrics:
    return EpochMetrics(
        epoch=epoch,
        learning_rate=1e-3,
        train_loss=loss,
        val_loss=2 * loss,
        val_macro_auc=0.75,
        val_balanced_accuracy=0.5,
        val_top1=0.25,
    )


def write(run, before, new):
    log = MetricsLog(run, before)
    for one in new:
        log.add(one)
    log.close()


def table(run) -> list[EpochMetrics]:
    with open(run / METRICS_FILE, newline="") as handle:
        rows = [{k: float(v) for k, v in line.items()} for line in csv.DictReader(handle)]
    return [EpochMetrics(**line | {"epoch": int(line["epoch"])}) for line in rows]


def scalars(run, tag: str) -> list[tuple[int, float]]:
    """What TensorBoard itself shows of a tag."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = accumulator.EventAccumulator(str(run / TENSORBOARD_FOLDER)).Reload()
    assert set(shown.Tags()["scalars"]) == TAGS
    return [(event.step, event.value) for event in shown.Scalars(tag)]


def test_the_table_holds_each_epoch_to_the_last_digit(tmp_path):
    rows = [row(1, 1 / 3), row(2, 1e-17)]
    write(tmp_path, [], rows)
    assert table(tmp_path) == rows


def test_a_log_without_epochs_has_its_header_alone(tmp_path):
    write(tmp_path, [], [])
    assert (tmp_path / METRICS_FILE).read_text().splitlines() == [
        "epoch,learning_rate,train_loss,val_loss,val_macro_auc,val_balanced_accuracy,val_top1"
    ]


def test_rows_beyond_what_is_gone_on_from_are_dropped(tmp_path):
    write(tmp_path, [], [row(1), row(2), row(3, 9.0)])
    write(tmp_path, [row(1), row(2)], [row(3, 0.25), row(4)])
    assert table(tmp_path) == [row(1), row(2), row(3, 0.25), row(4)]


def test_tensorboard_shows_each_epoch(tmp_path):
    write(tmp_path, [], [row(1, 0.5), row(2, 0.25)])
    assert scalars(tmp_path, "train/loss") == [(1, 0.5), (2, 0.25)]
    assert scalars(tmp_path, "val/loss") == [(1, 1.0), (2, 0.5)]


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_tensorboard_drops_what_was_logged_past_the_epoch_that_is_gone_on_from(tmp_path, kept):
    write(tmp_path, [], [row(1, 8.0), row(2, 8.0), row(3, 8.0)])
    before = [row(epoch, 8.0) for epoch in range(1, kept + 1)]
    write(tmp_path, before, [row(epoch, 0.5) for epoch in range(kept + 1, 5)])
    wanted = [(epoch, 8.0 if epoch <= kept else 0.5) for epoch in range(1, 5)]
    assert scalars(tmp_path, "train/loss") == wanted


def test_a_file_that_a_kill_cut_short_does_not_hide_the_others(tmp_path):
    write(tmp_path, [], [row(1), row(2)])
    (file,) = (tmp_path / TENSORBOARD_FOLDER).iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    write(tmp_path, [row(1)], [row(2, 0.25), row(3)])
    assert scalars(tmp_path, "train/loss") == [(1, 0.5), (2, 0.25), (3, 0.5)]


def test_without_tensorboard_there_is_the_table_alone(tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "tensorboard"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    write(tmp_path, [], [row(1)])
    assert table(tmp_path) == [row(1)]
    assert not (tmp_path / TENSORBOARD_FOLDER).exists()


def test_a_place_that_tensorboard_can_not_write_is_one_line(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / TENSORBOARD_FOLDER).write_text("a file")
    with pytest.raises(StorageError, match=r"^can't write .*tensorboard: File exists; check the path"):
        MetricsLog(tmp_path, [])


def test_an_event_file_on_a_full_disk_is_one_line_and_prints_nothing(tmp_path, monkeypatch, capfd):
    pytest.importorskip("tensorboard")
    from leakrt.train import metrics_log

    def full(path, *_):
        return open("/dev/full", "wb")

    monkeypatch.setattr(metrics_log, "open", full, raising=False)
    log = MetricsLog(tmp_path, [])
    with pytest.raises(StorageError, match="no space left while writing"):
        log.add(row(1))
    with pytest.raises(StorageError, match="no space left while writing"):
        log.close()
    assert capfd.readouterr().err == ""


def test_a_row_comes_back_and_a_foreign_one_is_refused():
    data = {"epoch": 1, "learning_rate": 1e-3, "train_loss": 0.5, "val_loss": 1.0, "val_macro_auc": 0.75}
    data |= {"val_balanced_accuracy": 0.5, "val_top1": 0.25}
    assert read_metrics(data) == row(1)
    for change in ({"epoch": "1"}, {"epoch": True}, {"val_top1": None}, {"extra": 1}):
        with pytest.raises(TypeError):
            read_metrics(data | change)
    with pytest.raises(TypeError):
        read_metrics({"epoch": 1})
