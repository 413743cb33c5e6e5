"""JPEG: decodes strictly, so that what libjpeg-turbo only warns about is an error or a note.

Pillow drops libjpeg's warnings, and with them a scan that was overwritten. simplejpeg stops at the first. Its pixels
are those of Pillow: both run libjpeg-turbo with the accurate DCT and smooth chroma upsampling.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, one_line
from .limits import DAMAGED

# Warnings about a header, of files that decode as they were meant.
_HARMLESS = re.compile(r"Invalid SOS parameters for sequential JPEG|Unknown Adobe color transform|JFIF revision number")
_PADDING = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_PADDING_BYTES = (b"\0", b"\xff", b"\xaa")


def decode_jpeg(data: bytes, colours: str, name: str) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Pixels uint8 [H, W, C] of a JPEG in `colours` (BGR, RGB, GRAY, or CMYK as stored), and notes.

    Raises ImageError for data that libjpeg-turbo finds damaged.
    """
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(data, colours, strict=True), ()
    except ValueError as error:
        warning = one_line(error)
    if not _is_harmless(warning, data):
        raise ImageError(f"{name}: {DAMAGED} ({warning})")
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, strict=False)
    except ValueError as error:
        raise ImageError(f"{name}: {DAMAGED} ({one_line(error)})") from error
    return pixels, (f"the JPEG decoder warns: {warning}",)


def _is_harmless(warning: str, data: bytes) -> bool:
    """Whether a warning says nothing about the pixels. Some cameras pad the scan with bytes of one value."""
    if _HARMLESS.search(warning):
        return True
    padding = _PADDING.search(warning)
    if padding is None:
        return False
    end = data.rfind(b"\xff\xd9")
    return data[:end].endswith(tuple(byte * int(padding[1]) for byte in _PADDING_BYTES))
