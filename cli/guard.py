"""Errors as one line on stderr and an exit code.

Exit codes: 0 success; 1 an error, or an image that could not be read; 2 wrong usage; 130 Ctrl-C; 141 closed output.
A traceback is a bug.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .console import printable
from .interrupts import raise_swallowed, remembered

USAGE, INTERRUPTED, CLOSED_PIPE = 2, 130, 141
_PRINTERS = ("click", "rich", "typer")  # what prints for the CLI


def guarded(work: Callable[[], int]) -> int:
    """Run `work` and return its exit code; errors that a user can cause are printed as one line on stderr."""
    from ..core.errors import LeakRTError, UsageError

    try:
        with remembered():
            return _heard(work)
    except LeakRTError as error:
        return _fail(f"error: {error}", USAGE if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        return CLOSED_PIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = _where_full(error)
        _drop_output()
        if error.errno == errno.EFBIG:
            return _fail(f"error: the limit on the size of a file is reached{where}; raise it (ulimit -f)", 1)
        return _fail(f"error: no space left{where}; free some space and run the command again", 1)


def _heard(work: Callable[[], int]) -> int:
    """Run `work`; an error that a library raised instead of KeyboardInterrupt becomes KeyboardInterrupt again."""
    try:
        return work()
    except Exception:
        raise_swallowed()
        raise


def leave(code: int) -> NoReturn:
    """Exit with a code of `guarded`.

    After Ctrl-C a library thread may still run. A normal exit of the interpreter would then end in a core dump, so the
    process exits at once.
    """
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it was handled
    if code == INTERRUPTED and any(thread.daemon for thread in threading.enumerate()):
        with suppress(OSError):
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    print(f"leakrt: {printable(message)}", file=sys.stderr)
    return code


def _where_full(error: OSError) -> str:
    """Which file could not be written: a named one, or standard output."""
    if error.filename:
        return f" while writing {error.filename}"
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    module = str(frame.f_globals.get("__name__", ""))
    printed = module.startswith(__package__) or module.split(".")[0] in _PRINTERS
    return f" while writing standard output{_output_file()}" if printed else ""


def _output_file() -> str:
    """ " to FILE" if stdout is a file and the system gives its name."""
    try:
        target = str(Path(f"/proc/self/fd/{sys.stdout.fileno()}").readlink())
    except (OSError, ValueError):
        return ""
    return f" to {target}" if target.startswith("/") else ""


def _drop_output() -> None:
    """Redirect stdout to /dev/null, so that the last flush of the interpreter can't fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
