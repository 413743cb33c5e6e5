"""Who changes a bundle is alone with it, whatever it is called, and finds it whole after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("filelock")

from leakrt.core.changing import changing
from leakrt.core.errors import StorageError
from leakrt.core.progress import silent

# Reads all of a folder, and writes all of it a little later: done side by side, one of two loses what it added.
_ADD = """
import json, sys, time
from pathlib import Path
from leakrt.core.changing import changing
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


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "a bundle"
    path.mkdir()
    (path / "manifest.json").write_text("[]")
    return path


def test_two_processes_lose_nothing_of_one_another(bundle, tmp_path):
    (tmp_path / "link").symlink_to(bundle)
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _ADD, str(path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for path, name in ((bundle, "int8"), (tmp_path / "link", "fp16"))
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.communicate("\n", timeout=60)
        assert child.returncode == 0
    assert sorted(json.loads((bundle / "manifest.json").read_text())) == ["fp16", "int8"]


def test_what_a_killed_writer_left_is_put_right(bundle):
    aside = bundle.rename(bundle.with_name(".a bundle.7.old"))
    (bundle.parent / ".a bundle.x1.part").mkdir()
    (bundle.parent / ".another bundle.x1.part").mkdir()
    with changing(bundle, silent):
        assert (bundle / "manifest.json").exists()
    assert not aside.exists()
    assert [path.name for path in bundle.parent.glob(".*")] == [".another bundle.x1.part"]


def test_a_cache_that_can_not_be_written_is_one_line(bundle, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match=r"^can't write .*locks: "), changing(Path(bundle), silent):
        pass
