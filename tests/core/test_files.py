"""Nothing is lost: whatever fails while writing, what stood there stays whole."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from leakrt.core import files
from leakrt.core.errors import StorageError

_LIMITED = """
import resource, signal, sys
from pathlib import Path
from leakrt.core.errors import StorageError
from leakrt.core.files import atomic_folder, atomic_write
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    atomic_write(Path(sys.argv[1]), b"n" * 5000)
except StorageError as error:
    print(error)
try:
    with atomic_folder(Path(sys.argv[2])) as folder:
        (folder / "a").write_bytes(b"n" * 500)
        (folder / "b").write_bytes(b"n" * 5000)
except StorageError as error:
    print(error)
"""


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_is_replaced(tmp_path):
    (tmp_path / "x").write_bytes(b"old")
    files.atomic_write(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert entries(tmp_path) == ["x"]


def test_a_failing_writer_leaves_the_old_file_and_no_rest(tmp_path):
    (tmp_path / "x").write_bytes(b"old")

    def produce(path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        files.atomic_produce(tmp_path / "x", produce)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert entries(tmp_path) == ["x"]


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    def produce(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(
        StorageError, match=r"^no space left while writing .*x; free some space and run the command again$"
    ):
        files.atomic_produce(tmp_path / "x", produce)
    assert (tmp_path / "x").read_bytes() == b"old"
    assert entries(tmp_path) == ["x"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_device_without_space_is_a_storage_error(tmp_path):
    def produce(path: Path) -> None:
        path.symlink_to("/dev/full")
        path.write_bytes(b"x")

    with pytest.raises(StorageError, match="no space left"):
        files.atomic_produce(tmp_path / "x", produce)
    assert entries(tmp_path) == []


def test_files_cut_off_by_a_real_limit_keep_what_stood_there(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"old")
    arguments = [sys.executable, "-c", _LIMITED, tmp_path / "file", tmp_path / "folder"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith(f"can't write {tmp_path / 'file'}: the limit on the size of a file is reached")
    assert second.startswith(f"can't write {tmp_path / 'folder'}: the limit on the size of a file is reached")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "folder" / "a").read_bytes() == b"old"
    assert entries(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("place", ["missing/x", "file/x"])
def test_a_place_that_can_not_be_written_is_a_storage_error(tmp_path, place):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"^can't write .*x: .*; check the path and its permissions$"):
        files.atomic_write(tmp_path / place, b"data")


def test_a_folder_is_replaced_whole(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    with files.atomic_folder(tmp_path / "b") as folder:
        (folder / "new").touch()
        assert (tmp_path / "b" / "old").exists()
    assert entries(tmp_path / "b") == ["new"]
    assert entries(tmp_path) == ["b"]
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o755


def test_a_folder_replaces_a_file(tmp_path):
    (tmp_path / "b").touch()
    with files.atomic_folder(tmp_path / "b") as folder:
        (folder / "new").touch()
    assert entries(tmp_path / "b") == ["new"]
    assert entries(tmp_path) == ["b"]


def test_a_failure_inside_leaves_the_old_folder(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()

    def fail() -> None:
        with files.atomic_folder(tmp_path / "b") as folder:
            (folder / "new").touch()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert entries(tmp_path / "b") == ["old"]
    assert entries(tmp_path) == ["b"]


# Replaces a folder, and kills itself before the N-th rename, removal or exchange: whatever changes what is there.
_KILLED = """
import ctypes, os, shutil, signal, sys
from pathlib import Path
from leakrt.core import files
path, left, exchange = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "exchange"

def counted(call):
    def instead(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return instead

os.replace, shutil.rmtree = counted(os.replace), counted(shutil.rmtree)
files._exchange = counted(files._exchange if exchange else lambda *paths: False)
with files.atomic_folder(path) as folder:
    (folder / "new").touch()
"""


@pytest.mark.parametrize("way", ["exchange", "two_renames"])
def test_killed_at_any_moment_the_folder_is_the_old_or_the_new_one_and_nothing_else_is_left(tmp_path, way):
    found = []
    for moment in range(20):
        path = tmp_path / str(moment) / "b"
        path.mkdir(parents=True)
        (path / "old").touch()
        done = subprocess.run([sys.executable, "-c", _KILLED, path, str(moment), way], check=False)
        if way == "exchange":
            assert path.exists()  # for who reads it meanwhile, too
        files.recover(path)
        assert entries(path.parent) == ["b"]
        found += entries(path)
        if done.returncode == 0:
            break
    assert found[0] == "old"
    assert found[-1] == "new"
    assert len(found) > 2


def test_what_is_recovered_and_what_is_removed_is_said(tmp_path, caplog):
    (tmp_path / ".b.7.old").mkdir()
    (tmp_path / ".b.x1.part").mkdir()
    files.recover(tmp_path / "b")
    assert [record.getMessage() for record in caplog.records] == [
        f"restored {tmp_path / 'b'} after an interrupted write",
        f"removed {tmp_path / '.b.x1.part'}, the leftover of an interrupted write",
    ]


def test_of_others_nothing_is_taken_for_a_rest(tmp_path):
    names = [".b.7.part", ".b.txt.old", ".bb.7.part", "b.7.part", ".[b].7.part"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "[b]").touch()
    files.recover(tmp_path / "[b]")
    assert entries(tmp_path) == sorted({*names, "[b]"} - {".[b].7.part"})


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    (tmp_path / "link").symlink_to("b")
    with files.atomic_folder(tmp_path / "link") as folder:
        (folder / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert entries(tmp_path / "b") == ["new"]
    assert entries(tmp_path) == ["b", "link"]


def test_the_folder_that_one_stands_in_is_replaced(tmp_path, monkeypatch):
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    with files.atomic_folder(Path()) as folder:
        (folder / "new").touch()
    assert entries(tmp_path / "b") == ["new"]
    assert entries(tmp_path) == ["b"]


def test_a_failing_last_rename_puts_the_old_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda *paths: False)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "old").touch()
    rename = os.replace

    def refuse_new(source, target):
        if Path(source).suffix == ".part":
            raise OSError(errno.EACCES, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "replace", refuse_new)
    with pytest.raises(StorageError, match="Permission denied"), files.atomic_folder(tmp_path / "b") as folder:
        (folder / "new").touch()
    assert entries(tmp_path / "b") == ["old"]
    assert entries(tmp_path) == ["b"]


def test_folders_above_are_made(tmp_path):
    with files.atomic_folder(tmp_path / "a" / "b"):
        pass
    assert (tmp_path / "a" / "b").is_dir()


def test_hashes_of_bytes_and_files_agree(tmp_path):
    data = os.urandom((1 << 20) + 17)
    (tmp_path / "x").write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert files.sha256_file(tmp_path / "x") == files.sha256_bytes(data) == expected


def test_the_cache_follows_the_xdg_specification(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_folder() == tmp_path / "leakrt"
    monkeypatch.setenv("HOME", str(tmp_path))
    for ignored in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert files.cache_folder() == tmp_path / ".cache" / "leakrt"


@pytest.mark.parametrize(
    ("size", "limit", "said"), [(0, 0, ""), (5, 5, ""), (6, 5, "5 bytes"), (1 << 21, 1 << 20, "1 MiB")]
)
def test_a_file_is_read_whole_or_refused_with_what_it_may_have(tmp_path, size, limit, said):
    data = os.urandom(size)
    (tmp_path / "x").write_bytes(data)
    if not said:
        assert files.read_bounded(tmp_path / "x", limit) == data
        return
    with pytest.raises(OSError, match="it has more than") as error:
        files.read_bounded(tmp_path / "x", limit)
    assert error.value.strerror == f"it has more than {said}"
    assert error.value.filename == str(tmp_path / "x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_may_never_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        for read in (lambda path: files.read_bounded(path, 1000), files.sha256_file):
            with pytest.raises(OSError, match="not a regular file") as error:
                read(path)
            assert error.value.filename == str(path)
