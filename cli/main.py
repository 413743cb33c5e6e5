"""The entry point of `leakrt`."""

from __future__ import annotations

import sys

from .guard import guarded, leave


def run() -> None:
    """The entry point of the console script."""
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
        sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _set_encoding() -> None:
    """Write UTF-8 whatever the locale says; a file name that is no text is escaped (in JSON too: \\udcXX)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
