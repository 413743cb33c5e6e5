"""Entry point of `leakrt`."""

from __future__ import annotations

import os
import sys

from .guard import guarded, leave


def run() -> None:
    """Run the console script and exit with its code."""
    _open_closed_streams()
    leave(guarded(_main))


def _main() -> int:
    # Imported inside the guard, so that Ctrl-C during the import prints one line too.
    from .app import build_app

    _set_encoding()
    try:
        build_app()(prog_name="leakrt")
    except SystemExit as stop:
        if isinstance(getattr(stop.__context__, "__cause__", None), KeyboardInterrupt):
            raise KeyboardInterrupt from stop  # Typer exits silently on a Ctrl-C before or after the verb
        if isinstance(stop.__context__, BrokenPipeError):  # click exits with 1
            raise stop.__context__ from None
        sys.stdout.flush()  # inside the guard, which reports a full disk or a closed pipe
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


def _open_closed_streams() -> None:
    """Open closed standard streams (`2>&-`) on the null device.

    Otherwise the next file that is opened gets the free descriptor, and receives what libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


def _set_encoding() -> None:
    """Write UTF-8 in every locale. Undecodable bytes of file names are escaped, in JSON too (\\udcXX)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
