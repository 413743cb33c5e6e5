"""The entry point of `leakrt`."""

from __future__ import annotations

import os
import sys

from .guard import guarded, leave


def run() -> None:
    """The entry point of the console script."""
    _open_closed_streams()
    leave(guarded(_main))


def _main() -> int:
    # Inside the guard, so that Ctrl-C while Python still imports is one line too.
    from .app import build_app

    _set_encoding()
    try:
        build_app()(prog_name="leakrt")
    except SystemExit as stop:
        if isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt):
            raise KeyboardInterrupt from stop  # Typer ends without a word at a Ctrl-C before or after the verb
        if isinstance(stop.__context__, BrokenPipeError):  # click exits with 1
            raise stop.__context__ from None
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be reported
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _open_closed_streams() -> None:
    """Point closed standard streams (`2>&-`) at nothing.

    Else Python has no such stream, and the next file that is opened takes its number, and what a library prints.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def _set_encoding() -> None:
    """Write UTF-8 whatever the locale says; a file name that is no text is escaped (in JSON too: \\udcXX)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
