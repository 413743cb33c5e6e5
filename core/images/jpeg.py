"""Strict JPEG decoding: warnings of libjpeg-turbo become errors or notes.

Pillow discards the warnings of libjpeg, so that an overwritten scan goes unnoticed. simplejpeg stops at the first
warning. Its pixels equal Pillow's: both run libjpeg-turbo with the accurate DCT and smooth chroma upsampling.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, one_line
from .limits import DAMAGED

# Warnings about headers of files that still decode correctly.
_HARMLESS = re.compile(r"Invalid SOS parameters for sequential JPEG|Unknown Adobe color transform|JFIF revision number")
_PADDING = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")
_PADDING_BYTES = (b"\0", b"\xff", b"\xaa")
_UNCHECKED = re.compile(r"subsampling level")  # libjpeg decodes these, but TurboJPEG's interface can't express them

UNCHECKED = "its unusual chroma subsampling prevents a check of its data; damage may go unnoticed"
UNFINISHED = "the progressive JPEG lacks its last scans; it is decoded with reduced detail"

_MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")  # except stuffed zeros and restarts, which occur inside a scan
_PROGRESSIVE, _SCAN, _END = (0xC2, 0xCA), 0xDA, 0xD9
_COEFFICIENTS = 64


class UncheckedError(ValueError):
    """A valid JPEG that can't be decoded strictly."""


def decode_jpeg(data: bytes, colours: str, name: str) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """Decode a JPEG to pixels uint8 [H, W, C] in `colours` (BGR, RGB, GRAY, or CMYK as stored). Also returns notes.

    Raises ImageError for damaged data, and UncheckedError for a subsampling that TurboJPEG does not support.
    """
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(data, colours, strict=True), _unfinished(data)
    except ValueError as error:
        warning = one_line(error)
    if _UNCHECKED.search(warning):
        raise UncheckedError(warning)
    if not _is_harmless(warning, data):
        raise ImageError(f"{name}: {DAMAGED} ({warning})")
    try:
        pixels = simplejpeg.decode_jpeg(data, colours, strict=False)
    except ValueError as error:
        raise ImageError(f"{name}: {DAMAGED} ({one_line(error)})") from error
    return pixels, (f"the JPEG decoder warns: {warning}",)


def _is_harmless(warning: str, data: bytes) -> bool:
    """Return whether a warning does not affect the pixels. Some cameras pad the scan with bytes of one value."""
    if _HARMLESS.search(warning):
        return True
    padding = _PADDING.search(warning)
    if padding is None:
        return False
    end = data.rfind(b"\xff\xd9")
    return data[:end].endswith(tuple(byte * int(padding[1]) for byte in _PADDING_BYTES))


def _unfinished(data: bytes) -> tuple[str, ...]:
    """Return a note if a progressive JPEG lacks bits of its coefficients (ITU-T T.81, G.1.1.1); else an empty tuple."""
    progressive, components, at = False, b"", 2
    missing: dict[int, list[int]] = {}  # component to the number of missing bits per coefficient
    while found := _MARKER.search(data, at):
        marker, at = found[1][0], found.end()
        if marker == _END:
            break
        body = data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")]
        at += 2 + len(body)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            progressive, components = marker in _PROGRESSIVE, body[6::3]
            missing = {component: [_COEFFICIENTS] * _COEFFICIENTS for component in components}
        elif marker == _SCAN and body:
            count = body[0]
            first, last, low = body[1 + 2 * count], body[2 + 2 * count], body[3 + 2 * count] & 15
            for component in body[1 : 1 + 2 * count : 2]:
                if component in missing:
                    missing[component][first : last + 1] = [low] * (last + 1 - first)
    lacking = progressive and any(bits for each in missing.values() for bits in each)
    return (UNFINISHED,) if lacking else ()
