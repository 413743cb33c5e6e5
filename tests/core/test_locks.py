"""A lock file: one process at a time, who waits is told, and who dies lets go."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from leakrt.core.errors import StorageError
from leakrt.core.locks import held, take
from leakrt.core.progress import silent

_HOLD = """
import sys, time
from pathlib import Path
from leakrt.core.locks import held
from leakrt.core.progress import silent
with held(Path(sys.argv[1]), silent, ""):
    print("held", flush=True)
    sys.stdin.readline()
"""


# Adds one to a number many times: two that hold the lock at once lose some.
_COUNT = """
import sys
from pathlib import Path
from leakrt.core.locks import held
from leakrt.core.progress import silent
number = Path(sys.argv[1]) / "number"
print("ready", flush=True)
sys.stdin.readline()
for _ in range(100):
    with held(number.with_name("lock"), silent, ""):
        number.write_text(str(int(number.read_text()) + 1))
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

    with held(tmp_path / "lock", told, "wait for it"):
        assert said[0] == ("wait for it", 1, 0)


def test_a_lock_that_nobody_holds_is_had_at_once(tmp_path):
    said = []
    for _ in range(2):
        with held(tmp_path / "lock", lambda *step: said.append(step), "wait for it"):
            pass
    assert said == []


def test_many_that_remove_the_file_in_turn_are_never_two_at_once(tmp_path):
    (tmp_path / "number").write_text("0")
    command = [sys.executable, "-c", _COUNT, str(tmp_path)]
    children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=120)
        assert child.returncode == 0
    assert (tmp_path / "number").read_text() == "400"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_two_of_one_process_exclude_one_another_and_nothing_is_left(tmp_path):
    lock = take(tmp_path / "lock")
    assert take(tmp_path / "lock") is None
    lock.release()
    assert list(tmp_path.iterdir()) == []


def test_who_opened_the_file_before_its_holder_removed_it_does_not_hold_the_lock(tmp_path, monkeypatch):
    from leakrt.core import locks

    first, lock = take(tmp_path / "lock"), locks._lock

    def late(*arguments):
        first.release()
        return lock(*arguments)

    monkeypatch.setattr(locks, "_lock", late)
    assert take(tmp_path / "lock") is None


def test_what_a_killed_holder_left_is_taken_over_and_removed(tmp_path, holder):
    holder.kill()
    holder.wait()
    assert (tmp_path / "lock").exists()
    with held(tmp_path / "lock", silent, ""):
        pass
    assert not (tmp_path / "lock").exists()


def test_a_file_of_something_else_keeps_its_name_and_content(tmp_path):
    (tmp_path / "lock").write_text("a diary")
    with held(tmp_path / "lock", silent, ""):
        pass
    assert (tmp_path / "lock").read_text() == "a diary"


@pytest.mark.parametrize("place", ["there", "not there"])
def test_a_link_is_not_followed(tmp_path, place):
    target = tmp_path / "target"
    if place == "there":
        target.touch(0o600)
    (tmp_path / "lock").symlink_to(target)
    with pytest.raises(StorageError, match=r"^can't lock .*lock: it is a link; remove it$"):
        take(tmp_path / "lock")
    assert (tmp_path / "lock").is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o600 if place == "there" else not target.exists()


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(StorageError, match=r"^can't lock .*lock: it is not a plain file; remove it$"):
        take(tmp_path / "lock")


@pytest.mark.parametrize("place", ["lock", "missing/lock"])
def test_a_place_that_can_not_be_locked_is_one_line(tmp_path, place):
    (tmp_path / "lock").mkdir()
    with pytest.raises(StorageError, match=r"^can't write .*lock: "), held(tmp_path / place, silent, ""):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_line(tmp_path, monkeypatch, number):
    import fcntl

    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(StorageError, match=r"its file system supports no locks \(.*\); mount it with locks, or"):
        take(tmp_path / "lock")


def test_any_user_may_take_over_a_lock_file_whatever_the_umask(tmp_path):
    before = os.umask(0o077)
    try:
        with held(tmp_path / "lock", silent, ""):
            assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o666
    finally:
        os.umask(before)


@contextmanager
def another_user():
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can be two users")
@pytest.mark.parametrize(("rights", "left"), [(0o777, False), (0o1777, True)], ids=["shared", "sticky, as /tmp"])
@pytest.mark.parametrize("file", [0o666, 0o644], ids=["ready", "killed before its rights came"])
def test_two_users_exclude_one_another_in_a_folder_that_both_may_write(rights, left, file):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(rights)
        lock = take(folder / "lock")
        (folder / "lock").chmod(file)
        with another_user():
            assert take(folder / "lock") is None
            os.seteuid(0)
            os.close(lock._descriptor)  # killed: the file stays
            os.seteuid(65534)
            with held(folder / "lock", silent, ""):
                os.seteuid(0)
                assert take(folder / "lock") is None
                os.seteuid(65534)
        assert (folder / "lock").exists() is left  # a sticky folder lets its owner alone remove it


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_folder_in_which_no_file_can_be_created_is_an_error_at_once():
    with pytest.raises(StorageError, match="no file can be created there"):
        take(Path("/proc/.x.lock"))
