"""A training session resumes to the same weights after a kill at any moment, and excludes other sessions."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
from processes import run_in_child, train_killed
from runs import train_run, write_images

from leakrt.core.errors import CheckpointError, DataError, StorageError, UsageError
from leakrt.core.locks import held
from leakrt.core.progress import silent
from leakrt.train import session
from leakrt.train.run import Run
from leakrt.train.session import LOCK_FILE

LASTING = ("best.safetensors", "last.safetensors", "metrics.csv", "run.json", "items.json")
RECIPE: dict[str, object] = {"epochs": 3, "batch_size": 4, "widths": (4, 6)}
MOMENTS = 24  # number of syncs to disk of an undisturbed session


def write_two(root: Path) -> Path:
    for k, name in enumerate(("real", "smooth")):
        for start, (split, count) in enumerate((("train", 6), ("val", 3))):
            write_images(root / split / name, name, count, first_seed=1000 * start + 100 * k)
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_two(tmp_path_factory.mktemp("session") / "data")


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    return lasting(train_run(root, data, **RECIPE))


def lasting(run: Path) -> dict[str, bytes]:
    """The files of a run, without its absolute path."""
    return {name: (run / name).read_bytes().replace(str(run.parent).encode(), b"ROOT") for name in LASTING}


def check_killed(moment: int, root: Path, data: Path, undisturbed: dict[str, bytes]) -> None:
    assert run_in_child(train_killed, moment, root, data, RECIPE) == -signal.SIGKILL
    if (root / "run" / "run.json").exists():
        assert not Run.open(root / "run").info.finished
    assert lasting(train_run(root, data, **RECIPE)) == undisturbed
    assert [path.name for path in (root / "run").iterdir() if path.name.endswith(".part")] == []


@pytest.mark.parametrize("moment", [0, 3, 5, 9, 12, 15, 23])
def test_a_killed_session_resumes_to_the_same_result(tmp_path, data, undisturbed, moment):
    check_killed(moment, tmp_path, data, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("moment", sorted({*range(MOMENTS)} - {0, 3, 5, 9, 12, 15, 23}))
def test_a_killed_session_resumes_to_the_same_result_at_every_other_moment(tmp_path, data, undisturbed, moment):
    check_killed(moment, tmp_path, data, undisturbed)


def test_the_tests_cover_every_moment(tmp_path, data, undisturbed):
    assert run_in_child(train_killed, MOMENTS, tmp_path, data, RECIPE) == 0
    assert lasting(tmp_path / "run") == undisturbed


def test_a_session_killed_repeatedly_resumes_to_the_same_result(tmp_path, data, undisturbed):
    for moment in (4, 8, 8, 8):
        assert run_in_child(train_killed, moment, tmp_path, data, RECIPE) == -signal.SIGKILL
    assert lasting(train_run(tmp_path, data, **RECIPE)) == undisturbed


def test_a_run_that_another_process_trains_is_refused_and_not_changed(tmp_path, data):
    run = train_run(tmp_path, data, **RECIPE)
    before = lasting(run)
    with (
        held(run / LOCK_FILE, silent, ""),
        pytest.raises(CheckpointError, match="another process is training in") as error,
    ):
        train_run(tmp_path, data, **RECIPE)
    assert "\n" not in str(error.value)
    assert lasting(run) == before
    train_run(tmp_path, data, **RECIPE)  # the lock is released


def test_a_second_session_is_refused_before_it_reads_an_image(tmp_path, data, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(session, "load_data", lambda *_: pytest.fail("it read the images"))
    with (
        held(tmp_path / "run" / LOCK_FILE, silent, ""),
        pytest.raises(CheckpointError, match="another process is training in"),
    ):
        train_run(tmp_path, data, **RECIPE)


@pytest.mark.parametrize("made", [True, False])
def test_invalid_data_leaves_no_folder_behind(tmp_path, data, made):
    own = shutil.copytree(data, tmp_path / "data")
    next((own / "train" / "real").iterdir()).write_bytes(b"no picture")
    if not made:
        (tmp_path / "run").mkdir()
    with pytest.raises(DataError):
        train_run(tmp_path, own, **RECIPE)
    assert (tmp_path / "run").exists() is not made


def test_only_files_left_by_a_killed_session_are_removed(tmp_path, data):
    run = train_run(tmp_path, data, **RECIPE)
    for name in ("run.json", "items.json", "best.safetensors", "last.safetensors", "metrics.csv", "decision.json"):
        (run / f".{name}.7.part").write_text("half")
    train_run(tmp_path, data, **RECIPE)
    assert [path.name for path in run.glob(".*")] == [".decision.json.7.part"]  # an evaluation could be writing it


def test_a_finished_run_is_not_trained_again(tmp_path, data):
    run = train_run(tmp_path, data, **RECIPE)
    written = (run / "last.safetensors").stat().st_mtime_ns
    train_run(tmp_path, data, **RECIPE)
    assert (run / "last.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 1}'])
def test_a_damaged_run_is_named_and_can_be_restarted(tmp_path, data, text):
    run = train_run(tmp_path, data, **RECIPE)
    before = lasting(run)
    (run / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"run\.json") as error:
        train_run(tmp_path, data, **RECIPE)
    assert "\n" not in str(error.value)
    assert (run / "run.json").read_text() == text
    train_run(tmp_path, data, restart=True, **RECIPE)
    assert lasting(run) == before


def test_a_run_of_a_newer_version_is_not_changed(tmp_path, data):
    run = train_run(tmp_path, data, **RECIPE)
    text = (run / "run.json").read_text().replace('"format_version": 1', '"format_version": 2')
    (run / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match="has format 2, this LeakRT reads up to 1; upgrade it"):
        train_run(tmp_path, data, **RECIPE)
    assert (run / "run.json").read_text() == text


def test_a_restart_removes_the_run_and_nothing_else(tmp_path, data):
    run = train_run(tmp_path, data, **RECIPE)
    (run / "notes.txt").write_text("mine")
    events = set((run / "tensorboard").iterdir()) if (run / "tensorboard").is_dir() else set()
    train_run(tmp_path, data, restart=True, **RECIPE | {"epochs": 1})
    assert len((run / "metrics.csv").read_text().splitlines()) == 2
    assert (run / "notes.txt").read_text() == "mine"
    assert not any(path.exists() for path in events)


def test_different_images_or_encoders_are_reported_before_anything_is_written(tmp_path, data):
    own = write_two(tmp_path / "data")
    run = train_run(tmp_path, own, **RECIPE)
    before = lasting(run)
    write_images(own / "val" / "more", "blocky", 2)
    (own / "val" / "more").rename(own / "train" / "real" / "more")
    with pytest.raises(CheckpointError, match="holds a run with a different data set; choose another --out"):
        train_run(tmp_path, own, **RECIPE)
    with pytest.raises(CheckpointError, match=r"learning_rate \(was 0\.005, now 0\.1\)"):
        train_run(tmp_path, data, **RECIPE | {"learning_rate": 0.1})
    assert lasting(run) == before


def test_the_latents_of_many_runs_are_encoded_once(tmp_path, data):
    train_run(tmp_path, data, **RECIPE)
    (latents,) = (tmp_path / "cache").rglob("latents.bin")
    size = latents.stat().st_size
    (tmp_path / "run").rename(tmp_path / "first")
    train_run(tmp_path, data, **RECIPE | {"seed": 1})
    assert [path.stat().st_size for path in (tmp_path / "cache").rglob("latents.bin")] == [size]
    assert size == 18 * 4 * 4 * 4 * 4


def test_the_real_class_must_exist(tmp_path, data):
    (tmp_path / "data").mkdir()
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir()
        (tmp_path / "data" / split / "smooth").symlink_to(data / split / "smooth")
        (tmp_path / "data" / split / "photo").symlink_to(data / split / "real")
    with pytest.raises(UsageError, match="no class is named 'real'; choose one of photo, smooth"):
        train_run(tmp_path, tmp_path / "data", **RECIPE)


def test_a_folder_that_can_not_be_created_is_a_storage_error(tmp_path, data):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(StorageError, match=r"^can't write .*run: "):
        train_run(tmp_path, data, **RECIPE)
    assert (tmp_path / "run").read_text() == "a file"


def test_tensorboard_of_a_resumed_run_shows_each_epoch_once(tmp_path, data):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    moment = 16  # the second epoch's row is written but not its weights
    assert run_in_child(train_killed, moment, tmp_path, data, RECIPE) == -signal.SIGKILL
    run = train_run(tmp_path, data, **RECIPE)
    shown = accumulator.EventAccumulator(str(run / "tensorboard")).Reload()
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert len(list((run / "tensorboard").iterdir())) == 2
    assert [(e.step, e.value) for e in shown.Scalars("val/loss")] == [
        (int(row[0]), pytest.approx(float(row[3]), rel=1e-6)) for row in rows
    ]
    assert [row[0] for row in rows] == ["1", "2", "3"]


def test_notes_reach_the_caller_and_bad_images_are_skipped_on_request(tmp_path, data):
    own = write_two(tmp_path / "data")
    (own / "train" / "real" / "bad.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(DataError, match=r"1 of 19 images can't be read: .*bad\.png"):
        train_run(tmp_path, own, **RECIPE)
    assert not (tmp_path / "run").exists()
    notes: list[str] = []
    run = Run.open(train_run(tmp_path, own, note=notes.append, skip_bad=True, **RECIPE))
    assert len(notes) == 1
    assert notes[0].startswith("left out: 1 of 19 images can't be read")
    assert run.info.counts["train"] == {"real": 6, "smooth": 6}
    assert "bad.png" not in (run.path / "items.json").read_text()
