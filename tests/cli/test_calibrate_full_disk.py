"""`leakrt calibrate` and `leakrt export --precision fp16` on a disk that is really full: one line, the bundle whole."""

from __future__ import annotations

import shutil
import sys

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxslim")
from runs import tiny_run
from small_disk import needs_own_mounts, run_on_small_disk

pytestmark = needs_own_mounts
# A graph of a few kilobytes need not be faster in int8, so that rule is set aside: the variant is to be written.
_ANY_SPEED = (
    "from leakrt.core import acceptance; acceptance.MIN_INT8_SPEEDUP = 0.0; from leakrt.cli.main import run; run()"
)
CALIBRATE = ("calibrate", "DISK/bundle", "DATA", "--no-refit", "--images", 40, "--max-drop", 1)
REFIT = ("calibrate", "DISK/bundle", "DATA", "--run", "RUN", "--images", 40, "--max-drop", 1)
FP16 = ("export", "DISK/bundle", "--precision", "fp16", "--data", "DATA")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder that holds a bundle of the tiny run; not to be written to."""
    from leakrt.export.exporter import export_run
    from leakrt.train.run import Run

    folder = tmp_path_factory.mktemp("exported")
    export_run(Run.open(tiny_run() / "run"), folder / "bundle")
    return folder


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def kilobytes(folder):
    return sum(4 * -(-len(data) // 4096) for data in files_of(folder).values())


def run(tmp_path, command, room, before):
    places = {"DISK": tmp_path / "disk", "DATA": tiny_run() / "data", "RUN": tiny_run() / "run"}
    words = [str(word) for word in command]
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    arguments = [sys.executable, "-c", _ANY_SPEED, *words, "--threads", 1]
    return run_on_small_disk(tmp_path / "disk", room, arguments, before=before, after=tmp_path / "after")


def check_report(done):
    assert done.returncode == 1
    assert "no space left while writing" in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1].endswith("free some space and run the command again")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [CALIBRATE, FP16], ids=["int8", "fp16"])
def test_a_disk_with_no_room_for_the_new_bundle_keeps_the_old_one(tmp_path, exported, monkeypatch, command):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = run(tmp_path, command, kilobytes(exported) + 100, exported)
    check_report(done)
    assert files_of(tmp_path / "after") == files_of(exported)
    with_room = tmp_path / "roomy"
    with_room.mkdir()
    done = run(with_room, command, 8 * kilobytes(exported), exported)
    assert done.returncode == 0, done.stderr
    assert files_of(with_room / "after").keys() > files_of(exported).keys()


@pytest.mark.parametrize("cached", ["ranges", "latents"])
def test_a_cache_with_no_room_is_reported_and_nothing_is_written(tmp_path, exported, monkeypatch, cached):
    """The bundle lies elsewhere; of the cache only one folder is on the disk, which holds less than that takes."""
    bundle, before = shutil.copytree(exported / "bundle", tmp_path / "bundle"), tmp_path / "before"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "leakrt").mkdir(parents=True)
    (tmp_path / "cache" / "leakrt" / cached).symlink_to(tmp_path / "disk")
    done = run(tmp_path, [word if word != "DISK/bundle" else bundle for word in REFIT], 12, before)
    check_report(done)
    assert f"leakrt/{cached}/" in done.stderr.splitlines()[-1]
    assert files_of(bundle) == files_of(exported / "bundle")
