"""Fitting of density and decision after training."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("torch")
from runs import COUNTS, tiny_run

from leakrt.core.errors import CheckpointError, DataError, UsageError
from leakrt.train.fit import DECISION, DENSITY, fit_run, open_fitted
from leakrt.train.run import Run


@pytest.fixture
def run(tmp_path) -> Run:
    """A copy of the run folder, which refers to the original data, encoder and latents."""
    return Run.open(shutil.copytree(tiny_run() / "run", tmp_path / "run"))


def test_density_and_decision_are_written_once_and_reused(run):
    first = fit_run(run)
    written = {name: (run.path / name).stat().st_mtime_ns for name in (DECISION, DENSITY)}
    again = open_fitted(run)
    assert again.judge.decision == first.judge.decision
    assert again.judge.support.to_bytes() == first.judge.support.to_bytes()
    assert {name: (run.path / name).stat().st_mtime_ns for name in written} == written


def test_another_rate_changes_only_the_thresholds_and_not_the_run(run):
    first, second = fit_run(run, rate=0.05), fit_run(run, rate=0.2)
    assert second.judge.decision.false_alarm_rate == 0.2
    assert second.judge.support.to_bytes() == first.judge.support.to_bytes()
    assert open_fitted(run).judge.decision == first.judge.decision


def test_a_fit_of_other_weights_is_ignored(run):
    wanted = fit_run(run).judge.decision
    text = (run.path / DECISION).read_text()
    (run.path / DECISION).write_text(text.replace('"weights": "', '"weights": "00').replace("0.05", "0.11"))
    assert open_fitted(run).judge.decision == wanted
    (run.path / DENSITY).write_bytes(b"not safetensors")
    assert open_fitted(run).judge.decision == wanted


def test_thresholds_depend_only_on_validation_images(run):
    fitted = fit_run(run)
    assert fitted.judge.decision.validation_real == COUNTS["val"]
    assert len(fitted.judge.support.points) == 3 * COUNTS["train"]


def test_a_rate_with_too_few_validation_faces_is_refused(run):
    with pytest.raises(DataError, match=r"are too few for a false-alarm rate of 0.01"):
        fit_run(run, rate=0.01)
    with pytest.raises(UsageError, match="false-alarm rate"):
        fit_run(run, rate=1.5)


def test_an_unfinished_run_is_refused(run):
    text = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(text.replace('"finished": true', '"finished": false'))
    with pytest.raises(CheckpointError, match="not finished"):
        open_fitted(Run.open(run.path))


def test_only_files_left_by_a_killed_writer_are_removed(run):
    (run.path / DECISION).unlink(missing_ok=True)  # an earlier test may have fitted the shared run
    for name in (f".{DECISION}.7.part", f".{DENSITY}.7.part", ".diary.7.part"):
        (run.path / name).write_text("half")
    fit_run(run)
    assert [path.name for path in run.path.glob(".*")] == [".diary.7.part"]
