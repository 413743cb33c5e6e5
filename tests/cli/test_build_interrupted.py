"""`leakrt build` and Ctrl-C, at any moment of a build: one line, exit code 130, no core dump."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from variants import require_rtx, shared_variants

# Gives itself Ctrl-C some seconds after the builder of the first engine began, so many times.
_INTERRUPTED = """
import os, signal, sys, threading, time
seconds, times = float(sys.argv.pop(1)), int(sys.argv.pop(1))

def watch():
    while not any(thread.name == "build vae_encoder" for thread in threading.enumerate()):
        time.sleep(0.001)
    time.sleep(seconds)
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

threading.Thread(target=watch).start()
from leakrt.cli.main import run
run()
"""
_SIXTEEN = ",".join(map(str, range(1, 17)))  # batch sizes, so that the build takes a second


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """No test touches the user's cache or keys."""
    require_rtx()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def heard() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a child of who ignores it ignores it too


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2, 0.3])
def test_ctrl_c_while_the_builder_works_is_one_line_and_nothing_is_kept(leakrt, seconds, times):
    where = ("--precision", "int8", "--flavour", "tensorrt-rtx", "--batch", _SIXTEEN)
    command = [sys.executable, "-c", _INTERRUPTED, str(seconds), str(times), "build", str(shared_variants()), *where]
    done = subprocess.run(command, preexec_fn=heard, capture_output=True, text=True, timeout=60)
    reported = [line for line in done.stderr.splitlines() if not line.startswith("build ")]  # but for progress
    assert (done.returncode, done.stdout, reported) == (130, "", ["leakrt: interrupted"])
    assert leakrt("engines", "verify", "--json").lines == []
    assert leakrt("engines", "prune").out.startswith("removed 0 engines and 0 leftovers")
