"""A lock file: one process at a time, who waits is told, and who dies lets go."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

pytest.importorskip("filelock", reason="the lock needs filelock (extra train)")

from leakrt.core.errors import StorageError
from leakrt.core.locks import held
from leakrt.core.progress import silent

_HOLD = """
import sys, time
from pathlib import Path
from leakrt.core.locks import held
from leakrt.core.progress import silent
with held(Path(sys.argv[1]), "train", silent, ""):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until it reads a line."""
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("ends", ["lets_go", "killed"])
def test_who_waits_is_told_and_comes_next_however_the_other_ends(tmp_path, holder, ends):
    said = []

    def told(*step):
        said.append(step)
        if ends == "killed":
            holder.send_signal(signal.SIGKILL)
        elif len(said) == 1:
            holder.stdin.write("\n")
            holder.stdin.flush()

    with held(tmp_path / "lock", "train", told, "wait for it"):
        assert said[0] == ("wait for it", 1, 0)


def test_a_lock_that_nobody_holds_is_had_at_once(tmp_path):
    said = []
    for _ in range(2):
        with held(tmp_path / "lock", "train", lambda *step: said.append(step), "wait for it"):
            pass
    assert said == []


def test_a_place_that_can_not_be_locked_is_one_line(tmp_path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(StorageError, match=r"^can't write .*lock: "), held(tmp_path / "lock", "train", silent, ""):
        pass
