"""The thread that owns a device: its end, whoever waits for it and however often they are interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from leakrt.runtime.backends.tensorrt.owner_thread import OwnerThread

_INTERRUPTED = """
import os, signal, sys, threading, time
from leakrt.runtime.backends.tensorrt.owner_thread import OwnerThread
gate = threading.Event()
thread = OwnerThread(gate.wait)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    thread.wait()
except KeyboardInterrupt:
    print("interrupted", thread.ended, any(t.name == "leakrt-gpu" for t in threading.enumerate()))
gate.set()
print(thread.wait(), thread.ended)
"""


def test_its_end_is_waited_for_and_told():
    gate = threading.Event()
    thread = OwnerThread(gate.wait)
    assert not thread.ended
    gate.set()
    assert thread.wait()
    assert thread.ended
    assert thread.wait()


def test_in_the_thread_itself_nobody_waits():
    told, ready = [], threading.Event()

    def work() -> None:
        ready.wait()
        told.append(made[0].wait())

    made = [OwnerThread(work)]
    ready.set()
    assert made[0].wait()
    assert told == [False]


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_who_is_interrupted_as_they_wait_still_knows_that_it_runs():
    ran = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, timeout=60,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == ["interrupted", "False", "True", "True", "True"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_work_that_fails_ends_it_too():
    thread = OwnerThread(lambda: 1 // 0)
    assert thread.wait()
    assert thread.ended
