"""Ctrl-C that is not lost: the KeyboardInterrupt it raises may land in a library that swallows whatever comes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_came = threading.Event()


@contextmanager
def remembered() -> Iterator[None]:
    """Remember that Ctrl-C came, besides raising KeyboardInterrupt. Nothing where who called has a handler of its own,
    or in another thread than the main one."""
    if threading.current_thread() is not threading.main_thread() or (
        signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _came.clear()


def raise_swallowed() -> None:
    """Raise KeyboardInterrupt where one came and the work went on all the same; for the main thread, between steps."""
    if _came.is_set() and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt


def _remember(number: int, frame: FrameType | None) -> None:
    _came.set()
    signal.default_int_handler(number, frame)
