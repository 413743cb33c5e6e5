"""Ctrl-C that is not lost: the KeyboardInterrupt it raises may land where nobody hears it.

What is raised in a `__del__`, or in a callback of a weak reference, goes to `sys.unraisablehook` and no further.
Python's import system has such a callback for each module (`_get_module_lock`): a training lost its Ctrl-C while
TensorBoard was imported, which is when metrics.csv appears. Elsewhere C code makes another error of it, or a library
swallows it.
"""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN = 0.01  # seconds; such a callback is over by then
_came = threading.Event()


@contextmanager
def remembered() -> Iterator[None]:
    """Remember that Ctrl-C came, besides raising KeyboardInterrupt, and raise it again where it could not be raised.
    Nothing where who called has a handler of its own, or in another thread than the main one."""
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, _remember)
    hook = sys.unraisablehook

    def unraised(what: UnraisableHookArgs) -> None:
        if what.exc_type is KeyboardInterrupt and _came.is_set():
            _thread.start_new_thread(_interrupt_again, ())  # threading's own locks may be held here
        else:
            hook(what)

    sys.unraisablehook = unraised
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _came.clear()


def raise_swallowed() -> None:
    """Raise KeyboardInterrupt where one came and the work went on all the same; for the main thread, between steps."""
    if _came.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    _came.set()
    signal.default_int_handler(number, frame)


def _interrupt_again() -> None:
    time.sleep(_AGAIN)
    if _came.is_set():  # else the command is over
        _thread.interrupt_main()
