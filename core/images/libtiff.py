"""What libtiff reports while Pillow decodes: Pillow raises some of it and drops the rest."""

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
    """A list that gets libtiff's errors of this thread while it is open.

    It stays empty where Pillow's libtiff can't be reached. Warnings can't be caught: Pillow drops them in C.
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
    """Replace the handler of Pillow's libtiff, which prints to stderr; what is returned must outlive it."""
    from PIL import _imaging

    handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
    record = handler(_record)
    try:
        library = ctypes.CDLL(_imaging.__file__)
        setters = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
    except (AttributeError, OSError):  # a Pillow whose libtiff can't be reached, or that has none
        return None
    for setter, each in zip(setters, (record, handler()), strict=True):
        setter.argtypes, setter.restype = [handler], ctypes.c_void_p
        setter(each)
    return record


def _record(_module: bytes | None, text: bytes | None, _values: int | None) -> None:
    """Keep a printf format up to its first value: the values can't be read from here."""
    messages = getattr(_reported, "messages", None)
    if messages is not None:
        plain = (text or b"").decode("ascii", "replace").partition("%")[0].strip(" :;,(")
        messages.append(plain or "unknown error")
