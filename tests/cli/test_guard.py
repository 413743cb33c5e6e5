"""What goes wrong is one line and an exit code; a traceback is a bug."""

from __future__ import annotations

import errno

import pytest

from leakrt.cli.guard import INTERRUPTED, USAGE, guarded
from leakrt.core.errors import DataError, UsageError


def failing(error: BaseException):
    def work() -> int:
        raise error

    return work


def test_success_passes_its_code_through():
    assert guarded(lambda: 0) == 0
    assert guarded(lambda: 7) == 7


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("no such folder: x"), 1, "leakrt: error: no such folder: x\n"),
        (UsageError("a batch of 0"), USAGE, "leakrt: error: a batch of 0\n"),
        (KeyboardInterrupt(), INTERRUPTED, "leakrt: interrupted\n"),
        (DataError("two\nlines and \x1b[31mcolour"), 1, "leakrt: error: two lines and \ufffd[31mcolour\n"),
    ],
)
def test_what_a_user_can_cause_is_one_line(capsys, error, code, line):
    assert guarded(failing(error)) == code
    assert capsys.readouterr() == ("", line)


def test_a_bug_keeps_its_traceback():
    for error in (ZeroDivisionError(), OSError(errno.EACCES, "Permission denied")):
        with pytest.raises(type(error)):
            guarded(failing(error))


def test_a_full_disk_is_reported_with_the_file_that_did_not_fit(capfd):
    assert guarded(failing(OSError(errno.ENOSPC, "No space left on device", "/data/engine.part"))) == 1
    assert capfd.readouterr().err == (
        "leakrt: error: no space left while writing /data/engine.part; free some space and run the command again\n"
    )


def test_a_full_disk_without_a_name_is_not_blamed_on_a_working_stdout(capfd):
    assert guarded(failing(OSError(errno.ENOSPC, "No space left on device"))) == 1
    assert capfd.readouterr().err == "leakrt: error: no space left; free some space and run the command again\n"
