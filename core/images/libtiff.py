"""What libtiff reports while Pillow decodes: Pillow raises some of it and drops the rest."""

from __future__ import annotations

import ctypes
import functools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# A warning of a decoder means damaged pixels; the others are about tags that nobody needs.
_DECODERS = re.compile(r"Decode|JPEG|Fax")

_reported = threading.local()


@contextmanager
def damage_reports() -> Iterator[list[str]]:
    """A list that gets libtiff's errors, and the warnings of its decoders, of this thread while it is open.

    It stays empty where Pillow's libtiff can't be reached.
    """
    _install()
    messages: list[str] = []
    _reported.messages = messages
    try:
        yield messages
    finally:
        _reported.messages = None


@functools.cache
def _install() -> tuple[Any, ...]:
    """Replace the handlers of Pillow's libtiff, which print to stderr; the handlers must outlive it."""
    from PIL import _imaging

    handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
    handlers = handler(_error), handler(_warning)
    try:
        library = ctypes.CDLL(_imaging.__file__)
        setters = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
    except (AttributeError, OSError):  # a Pillow whose libtiff can't be reached, or that has none
        return ()
    for setter, each in zip(setters, handlers, strict=True):
        setter.argtypes, setter.restype = [handler], ctypes.c_void_p
        setter(each)
    return handlers


def _error(module: bytes | None, text: bytes | None, _: int | None) -> None:
    messages = getattr(_reported, "messages", None)
    if messages is not None:
        messages.append(_plain(text))


def _warning(module: bytes | None, text: bytes | None, _: int | None) -> None:
    if _DECODERS.search((module or b"").decode("ascii", "replace")):
        _error(module, text, None)


def _plain(text: bytes | None) -> str:
    """A printf format up to its first value: the values can't be read from here."""
    return (text or b"").decode("ascii", "replace").partition("%")[0].strip(" :;,(") or "unknown error"
