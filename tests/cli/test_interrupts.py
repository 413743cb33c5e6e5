"""Ctrl-C ends a command, also where a library swallows it."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from leakrt.cli.console import ConsoleProgress
from leakrt.cli.guard import INTERRUPTED, guarded
from leakrt.cli.interrupts import raise_swallowed, remembered


def swallowed() -> None:
    """Ctrl-C, while code runs that catches whatever comes."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)  # ended by the interrupt
    except BaseException:
        pass


def test_the_next_step_of_progress_ends_what_a_swallowed_ctrl_c_did_not(capsys):
    steps = []

    def work() -> int:
        with ConsoleProgress() as progress:
            for step in range(3):
                progress("training", step, 3)
                steps.append(step)
                swallowed()
        return 0

    assert guarded(work) == INTERRUPTED
    assert steps == [0]
    assert capsys.readouterr().err.splitlines()[-1] == "leakrt: interrupted"


def test_what_came_is_forgotten_with_the_command():
    assert guarded(lambda: swallowed() or 0) == 0
    raise_swallowed()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_another_thread_is_not_interrupted():
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


@pytest.mark.parametrize("handler", [signal.SIG_IGN, lambda number, frame: None])
def test_a_handler_of_who_called_is_kept(handler):
    before = signal.signal(signal.SIGINT, handler)
    try:
        with remembered():
            assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, before)
