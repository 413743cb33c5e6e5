"""ICC profiles of the formats that Pillow does not search for them: BMP, GIF and JPEG 2000.

Each function returns the profile, None for sRGB or a file without colour description, and empty bytes for a colour
description that is damaged or not supported.
"""

from __future__ import annotations

import struct

_BMP_V4, _BMP_V5 = 108, 124  # bytes of the header that follows the file header
_BMP_SPACE, _BMP_GAMMA, _BMP_PROFILE = 14 + 56, 14 + 96, 14 + 112  # offsets of bV5CSType, bV5GammaRed, bV5ProfileData
_CALIBRATED, _SRGB, _WINDOWS, _EMBEDDED = 0, 0x73524742, 0x57696E20, 0x4D424544
_GIF_PROFILE = b"\x21\xff\x0bICCRGBG1012"
_ENUMERATED_SRGB = (16, 17, 18)  # sRGB, its greys, its YCC (ISO/IEC 15444-1, table I.10)


def embedded_profile(data: bytes, kind: str) -> bytes | None:
    """Return the profile of a BMP, GIF or JPEG2000 file's bytes; None for any other `kind`."""
    readers = {"BMP": _of_bmp, "GIF": _of_gif, "JPEG2000": _of_jpeg2000}
    return readers[kind](data) if kind in readers else None


def _of_bmp(data: bytes) -> bytes | None:
    """Read a BITMAPV5HEADER: the profile starts `bV5ProfileData` bytes after the start of the header."""
    (length,) = struct.unpack_from("<I", data, 14)
    if length < _BMP_V4 or len(data) < 14 + length:
        return None
    (space,) = struct.unpack_from("<I", data, _BMP_SPACE)
    if space in (_SRGB, _WINDOWS):
        return None
    if space == _CALIBRATED:
        return b"" if any(data[_BMP_GAMMA : _BMP_GAMMA + 12]) else None
    if space != _EMBEDDED or length < _BMP_V5:
        return b""
    start, size = struct.unpack_from("<2I", data, _BMP_PROFILE)
    return data[14 + start : 14 + start + size]


def _of_gif(data: bytes) -> bytes | None:
    """Read the application extension ICCRGBG1: a chain of blocks, each preceded by its length."""
    at = data.find(_GIF_PROFILE)
    if at < 0:
        return None
    at, found = at + len(_GIF_PROFILE), b""
    while at < len(data) and data[at]:
        found += data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
    return found


def _of_jpeg2000(data: bytes) -> bytes | None:
    """Read the first `colr` box (ISO/IEC 15444-1, I.5.3.3); a bare codestream has none."""
    if data[4:8] != b"jP  ":
        return None
    box = _box(_box(data, b"jp2h"), b"colr")
    if len(box) < 7:
        return None
    if box[0] == 1:
        return None if int.from_bytes(box[3:7], "big") in _ENUMERATED_SRGB else b""
    return box[3:] if box[0] in (2, 3) else b""


def _box(data: bytes, wanted: bytes) -> bytes:
    """Return the body of the first box of type `wanted` in a sequence of boxes; empty if there is none."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1 and at + 16 <= len(data):
            length, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        end = len(data) if length == 0 else at + length
        if kind == wanted:
            return data[at + head : end]
        if end < at + head:
            return b""
        at = end
    return b""
