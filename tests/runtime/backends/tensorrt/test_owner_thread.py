"""OwnerThread: waiting for its end, also after interrupts."""

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


def test_wait_returns_true_after_the_end():
    gate = threading.Event()
    thread = OwnerThread(gate.wait)
    assert not thread.ended
    gate.set()
    assert thread.wait()
    assert thread.ended
    assert thread.wait()


def test_wait_returns_at_once_in_the_thread_itself():
    told, ready = [], threading.Event()

    def work() -> None:
        ready.wait()
        told.append(made[0].wait())

    made = [OwnerThread(work)]
    ready.set()
    assert made[0].wait()
    assert told == [False]


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_after_an_interrupted_wait_it_is_still_reported_as_running():
    ran = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, timeout=60,
                         preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.split() == ["interrupted", "False", "True", "True", "True"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_ends_when_its_work_fails():
    thread = OwnerThread(lambda: 1 // 0)
    assert thread.wait()
    assert thread.ended
