"""Who changes a bundle is alone with it, whatever it is called, and finds it whole after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from threading import Thread

import pytest

from leakrt.core.errors import BundleError, StorageError
from leakrt.core.exclusive import changing, rewriting
from leakrt.core.progress import silent

# Reads all of a folder, and writes all of it a little later: done side by side, one of two loses what it added.
_ADD = """
import json, sys, time
from pathlib import Path
from leakrt.core.exclusive import changing
from leakrt.core.progress import silent
from leakrt.core.storage import write_files
path, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
with changing(path, silent):
    found = json.loads((path / "manifest.json").read_text())
    time.sleep(0.3)
    write_files(path, {"manifest.json": json.dumps([*found, name]).encode()})
"""


def begun(lock, work, seconds: float) -> Thread:
    """A thread that does `work` under `lock`, and had so many seconds for it."""

    def run() -> None:
        with lock:
            work()

    thread = Thread(target=run)
    thread.start()
    thread.join(seconds)
    return thread


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "a bundle"
    path.mkdir()
    (path / "manifest.json").write_text("[]")
    return path


def test_two_processes_of_two_users_lose_nothing_of_one_another(bundle, tmp_path):
    (tmp_path / "link").symlink_to(bundle)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _ADD, str(path), name],
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / name)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for path, name in ((bundle, "int8"), (tmp_path / "link", "fp16"))
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("\n", timeout=60)
        assert child.returncode == 0
    assert sorted(json.loads((bundle / "manifest.json").read_text())) == ["fp16", "int8"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a bundle", "link"]


def test_what_a_killed_writer_left_is_put_right(bundle):
    aside = bundle.rename(bundle.with_name(".a bundle.7.old"))
    (bundle.parent / ".a bundle.x1.part").mkdir()
    (bundle.parent / ".another bundle.x1.part").mkdir()
    with changing(bundle, silent):
        assert (bundle / "manifest.json").exists()
    assert not aside.exists()
    assert [path.name for path in bundle.parent.glob(".*")] == [".another bundle.x1.part"]


def test_the_live_writer_of_another_user_keeps_what_it_writes(bundle, monkeypatch, tmp_path):
    half, order = bundle.parent / ".a bundle.x1.part", []
    with changing(bundle, silent):
        half.mkdir()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another user"))
        second = begun(changing(bundle, lambda *step: order.append("waits")), lambda: order.append("changes"), 1.5)
        assert half.is_dir()
        order.append("done")
    second.join(60)
    assert order == ["waits", "done", "changes"]


def test_a_folder_that_can_not_be_written_is_told_before_the_work_begins(bundle, monkeypatch):
    (bundle.parent / ".a bundle.lock").mkdir()
    with pytest.raises(StorageError, match=r"^can't write .*\.a bundle\.lock: "), changing(bundle, silent):
        pytest.fail("the work began")


@pytest.mark.parametrize("path", ["missing", "missing/bundle", "file/bundle"])
def test_no_bundle_is_told_as_such_and_no_folder_is_made(tmp_path, path):
    from leakrt.core.storage import open_storage

    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"^no bundle at "), changing(tmp_path / path, silent):
        open_storage(tmp_path / path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_who_rewrites_files_removes_what_the_dead_left_and_waits_for_the_living(tmp_path):
    half, order = tmp_path / ".a.png.7.part", []
    with rewriting(tmp_path, ".lock", ["a.png"]):
        half.touch()
        second = begun(rewriting(tmp_path, ".lock", ["a.png"]), lambda: order.append("writes"), 0.5)
        assert half.exists()
        order.append("done")
    second.join(60)
    assert order == ["done", "writes"]
    assert list(tmp_path.iterdir()) == []


def test_without_locks_files_are_rewritten_and_nothing_is_taken_for_dead(tmp_path, monkeypatch):
    import errno
    import fcntl

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / ".a.png.7.part").touch()
    with rewriting(tmp_path, ".lock", ["a.png"]):
        (tmp_path / "a.png").touch()
    assert {".a.png.7.part", "a.png"} <= {path.name for path in tmp_path.iterdir()}
