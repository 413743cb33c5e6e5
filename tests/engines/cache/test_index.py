"""The index of the cache: damage, permissions and locks."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import asdict

import pytest

from leakrt.core.errors import EngineError
from leakrt.core.progress import silent
from leakrt.engines.cache import index
from leakrt.engines.cache.index import INDEX, Entry, Index, read_index, write_index

ENTRY = Entry(file="vae_encoder.fp16.engine", size=7, sha256="a" * 64, record="b" * 64)
DIGEST = "0" * 32


@pytest.fixture
def root(tmp_path):
    (tmp_path / "engines").mkdir(mode=0o700)
    return tmp_path / "engines"


def test_what_is_written_is_read_back(root):
    index = Index({DIGEST: ENTRY}, {"x.timing": "c" * 64})
    write_index(root, index)
    assert read_index(root) == index


def test_a_folder_without_an_index_holds_nothing(root):
    assert read_index(root) == Index()
    assert read_index(root / "missing") == Index()


@pytest.mark.parametrize(
    ("digest", "changes"),
    [
        ("../../etc", {}),
        (DIGEST.upper() + "Z", {}),
        (DIGEST, {"file": "../vae_encoder.fp16.engine"}),
        (DIGEST, {"file": "vae_encoder.fp16.engine\0"}),
        (DIGEST, {"file": "vae_encoder.fp16.engine\n"}),
        (DIGEST, {"file": "vae_encoder.fp64.engine"}),
        (DIGEST, {"file": ""}),
        (DIGEST, {"sha256": "short"}),
        (DIGEST, {"record": "G" * 64}),
        (DIGEST, {"size": "7"}),
        (DIGEST, {"more": 1}),
    ],
)
def test_an_invalid_entry_is_refused(root, digest, changes):
    body = {"format": 1, "engines": {digest: {**asdict(ENTRY), **changes}}, "timing": {}}
    (root / INDEX).write_text(json.dumps(body))
    with pytest.raises(EngineError, match=r"is damaged .*run: leakrt engines prune"):
        read_index(root)


def test_an_oversized_index_is_not_read(root, monkeypatch):
    write_index(root, Index())
    monkeypatch.setattr(index, "_LIMIT", 10)
    with pytest.raises(EngineError, match=r"it has more than 10 bytes\); run: leakrt engines prune"):
        read_index(root)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders")
def test_a_pipe_instead_of_the_index_is_refused_with_the_command_that_removes_it(root):
    from leakrt.engines.cache.cache import EngineCache

    os.mkfifo(root / INDEX)
    with pytest.raises(EngineError, match=r"\(not a regular file\); run: leakrt engines prune"):
        read_index(root)
    EngineCache(root, 0).prune(0)
    assert read_index(root) == Index()


def test_a_timing_cache_without_a_hash_is_omitted(root):
    body = {"format": 1, "engines": {}, "timing": {"good": "c" * 64, "bad": "c"}}
    (root / INDEX).write_text(json.dumps(body))
    assert read_index(root).timing == {"good": "c" * 64}


@pytest.mark.skipif(os.name == "nt", reason="permission bits")
@pytest.mark.parametrize("name", [INDEX, ""])
def test_an_index_that_others_can_write_is_not_trusted(root, name):
    write_index(root, Index({DIGEST: ENTRY}))
    path = root / name
    path.chmod(path.stat().st_mode | stat.S_IWOTH)
    with pytest.raises(EngineError, match="is not trusted: other users can write it; run: chmod -R go-w"):
        read_index(root)


@pytest.mark.skipif(os.name == "nt", reason="permission bits")
@pytest.mark.parametrize("mask", [0o002, 0o000, 0o077])
def test_created_folders_and_files_are_trusted_with_any_umask(tmp_path, mask):
    """Many systems default to one group per user and the umask 002."""
    from leakrt.engines.cache.index import engine_lock, index_lock

    root, before = tmp_path / "leakrt" / "engines", os.umask(mask)
    try:
        with engine_lock(root, DIGEST, silent, waiting=""), index_lock(root):
            write_index(root, Index({DIGEST: ENTRY}))
    finally:
        os.umask(before)
    assert read_index(root).engines == {DIGEST: ENTRY}
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


def test_the_lock_of_a_killed_process_is_released(root):
    from leakrt.engines.cache.index import engine_lock, try_engine_lock

    code = (
        "import sys\nfrom pathlib import Path\nfrom leakrt.core.progress import silent\n"
        "from leakrt.engines.cache.index import engine_lock\n"
        f"with engine_lock(Path(sys.argv[1]), {DIGEST!r}, silent, waiting=''):\n"
        "  print('held', flush=True)\n  input()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    assert try_engine_lock(root, DIGEST) is None
    process.kill()
    process.communicate()
    with engine_lock(root, DIGEST, silent, waiting=""):
        assert try_engine_lock(root, DIGEST) is None


def test_partial_files_of_a_killed_index_writer_are_removed(root):
    from leakrt.engines.cache.index import index_lock

    (root / f".{INDEX}.7.part").write_text("half")
    with index_lock(root):
        assert not list(root.glob("*.part"))
