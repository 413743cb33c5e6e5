"""Ctrl-C ends a command, also where a library swallows it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from leakrt.cli.interrupts import raise_swallowed, remembered

_TRAINING = """
import os, signal, sys, time
from leakrt.cli.console import ConsoleProgress
from leakrt.cli.guard import guarded

def work():
    with ConsoleProgress() as progress:
        for step in range(3):
            progress("training", step, 3)
            print(step, flush=True)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(5)  # ended by the interrupt
            except BaseException:
                pass
    return 0

sys.exit(guarded(work))
"""


@pytest.fixture
def handler():
    """Python's own handler of Ctrl-C, whatever runs the tests has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def swallowed() -> None:
    """Ctrl-C, while code runs that catches whatever comes."""
    with suppress(KeyboardInterrupt):
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)


def test_the_next_step_of_progress_ends_what_a_swallowed_ctrl_c_did_not():
    def heard() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a child of who ignores it ignores it too

    done = subprocess.run([sys.executable, "-c", _TRAINING], preexec_fn=heard, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "0\n")
    assert done.stderr.splitlines()[-1] == "leakrt: interrupted"


def test_what_came_is_forgotten_with_the_command(handler):
    with remembered():
        swallowed()
    raise_swallowed()
    assert signal.getsignal(signal.SIGINT) is handler


def test_another_thread_is_not_interrupted(handler):
    found: list[BaseException] = []

    def step() -> None:
        try:
            raise_swallowed()
        except BaseException as error:
            found.append(error)

    with remembered():
        swallowed()
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
        assert found == []
        with pytest.raises(KeyboardInterrupt):
            raise_swallowed()


@pytest.mark.parametrize("other", [signal.SIG_IGN, lambda number, frame: None])
def test_a_handler_of_who_called_is_kept(handler, other):
    signal.signal(signal.SIGINT, other)
    with remembered():
        assert signal.getsignal(signal.SIGINT) is other


_IMPORTING = """
import os, signal, sys
from leakrt.cli.guard import guarded
from leakrt.core.errors import MissingExtraError

def work():
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as error:
        raise MissingExtraError("can't import tensorrt_rtx: initialization failed") from error

sys.exit(guarded(lambda: guarded(work)))
"""


def test_an_error_that_a_library_made_of_ctrl_c_is_reported_as_ctrl_c():
    def heard() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    done = subprocess.run([sys.executable, "-c", _IMPORTING], preexec_fn=heard, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "leakrt: interrupted\n")
