"""`leakrt build`, killed with SIGKILL in the middle of a build or of a write: the next start is clean."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from variants import require_rtx, shared_variants

# Kills itself before the N-th call of os.fsync and os.replace, or in the middle of the N-th file: between two of them
# nothing that lasts is changed. Exits as the command does when there was no such moment.
_WRITING = """
import os, signal, sys
from pathlib import Path
kind, left = sys.argv.pop(1), int(sys.argv.pop(1))

def due():
    global left
    left -= 1
    return left < 0

def end():
    os.kill(os.getpid(), signal.SIGKILL)

def before(call):
    return lambda *arguments: end() if due() else call(*arguments)

def half(path, data, write=Path.write_bytes):
    return (write(path, data[: len(data) // 2]), end()) if due() else write(path, data)

if kind == "before":
    os.fsync, os.replace = before(os.fsync), before(os.replace)
else:
    Path.write_bytes = half
from leakrt.cli.main import run
run()
"""

# Says on stdout that the builder of an engine is at work, when it is, and holds still some seconds later.
_BUILDING = """
import os, signal, sys, threading, time
name, seconds = f"build {sys.argv.pop(1)}", float(sys.argv.pop(1))

def watch():
    while not any(thread.name == name for thread in threading.enumerate()):
        time.sleep(0.001)
    time.sleep(seconds)
    os.write(1, b"building\\n")
    os.kill(os.getpid(), signal.SIGSTOP)

threading.Thread(target=watch, daemon=True).start()
from leakrt.cli.main import run
run()
"""


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test touches the user's cache or keys."""
    require_rtx()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def arguments() -> list[str]:
    where = ("--precision", "fp32", "--flavour", "tensorrt-rtx", "--target", "8.6", "--json")
    return ["build", str(shared_variants()), *where]


def killed_writing(kind: str, moment: int) -> int:
    """The exit code of a build that is killed at that moment of its writing."""
    process = start(_WRITING, kind, moment, *arguments())
    process.communicate()
    return process.returncode


def stopped_building(graph: str, seconds: float) -> subprocess.Popen:
    """A build that holds still that long after the builder of the graph began."""
    process = start(_BUILDING, graph, seconds, *arguments())
    assert process.stdout.readline() == "building\n"
    return process


def start(code: str, *given: object) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, given)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def build(leakrt) -> list[bool]:
    """Build here: whether each of the two engines had to be built. Nothing is said of damage or of waiting."""
    done = leakrt(*arguments())
    assert (done.code, done.err) == (0, "")
    return [json.loads(line)["built"] for line in done.lines]


def assert_nothing_half(leakrt) -> None:
    """Whatever the cache lists is whole, and `verify` reads every byte of it."""
    done = leakrt("engines", "verify", "--json")
    assert done.code == 0
    assert [entry["problem"] for entry in map(json.loads, done.lines)] == [""] * len(done.lines)


def assert_clean(leakrt, cache: Path) -> None:
    """Two whole engines that the next build takes, and no half file or folder beside them."""
    assert_nothing_half(leakrt)
    assert len(leakrt("engines", "list", "--json").lines) == 2
    assert build(leakrt) == [False, False]
    assert list(cache.rglob("*.part")) == []
    assert leakrt("engines", "prune").out == "removed 0 engines and 0 leftovers, 0 B freed\n"


# Engine, JSON and index of two graphs are written, flushed and renamed: 12 moments, 6 files.
@pytest.mark.parametrize(("kind", "moment"), [*(("before", n) for n in range(12)), *(("half of", n) for n in range(6))])
def test_killed_while_it_writes_it_leaves_nothing_half_and_the_next_build_is_whole(leakrt, tmp_path, kind, moment):
    assert killed_writing(kind, moment) == -signal.SIGKILL
    assert_nothing_half(leakrt)
    first = (moment if kind == "before" else 2 * moment + 1) > 5  # the first graph's index was renamed
    assert build(leakrt) == [not first, True]
    assert_clean(leakrt, tmp_path / "cache")


def test_those_are_all_the_moments(leakrt):
    assert killed_writing("before", 12) == 0
    assert killed_writing("half of", 0) == 0  # nothing is written: the engines are there
    assert build(leakrt) == [False, False]


@pytest.mark.parametrize("seconds", [0, 0.02, 0.05])
@pytest.mark.parametrize("graph", ["vae_encoder", "leak_encoder"])
def test_killed_while_the_builder_works_it_leaves_no_lock_and_no_engine(leakrt, tmp_path, graph, seconds):
    process = stopped_building(graph, seconds)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert_nothing_half(leakrt)
    built = build(leakrt)
    assert seconds or built == [graph == "vae_encoder", True]  # a fast machine may be at the next engine by then
    assert_clean(leakrt, tmp_path / "cache")


def test_who_waits_for_a_build_that_is_killed_builds_it(leakrt, start_leakrt, tmp_path):
    first = stopped_building("vae_encoder", 0)
    second = start_leakrt(*arguments())
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(2)
    finally:
        first.kill()
        first.communicate()
    out, err = second.communicate(timeout=60)
    assert (second.returncode, err) == (0, "")
    assert [json.loads(line)["built"] for line in out.splitlines()] == [True, True]
    assert_clean(leakrt, tmp_path / "cache")
