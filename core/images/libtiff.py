"""Error reports of libtiff while Pillow decodes: Pillow raises only some of them."""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_reported = threading.local()


@contextmanager
def damage_reports() -> Iterator[list[str]]:
    """Yield a list that collects the errors of libtiff in this thread within the context.

    It stays empty if Pillow's libtiff is not accessible. Warnings are not collected: Pillow discards them in C.
    """
    _install()
    messages: list[str] = []
    _reported.messages = messages
    try:
        yield messages
    finally:
        _reported.messages = None


@functools.cache
def _install() -> Any:
    """Replace the handlers of Pillow's libtiff, which print to stderr. Keep the result: libtiff calls it."""
    from PIL import _imaging

    handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
    record = handler(_record)
    try:
        library = ctypes.CDLL(_imaging.__file__)
        setters = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
    except (AttributeError, OSError):  # Pillow has no libtiff, or it is not accessible
        return None
    for setter, each in zip(setters, (record, handler()), strict=True):
        setter.argtypes, setter.restype = [handler], ctypes.c_void_p
        setter(each)
    return record


def _record(_module: bytes | None, text: bytes | None, _values: int | None) -> None:
    """Record a printf format up to its first conversion: ctypes can't read the values."""
    messages = getattr(_reported, "messages", None)
    if messages is not None:
        plain = (text or b"").decode("ascii", "replace").partition("%")[0].strip(" :;,(")
        messages.append(plain or "unknown error")
