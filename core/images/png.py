"""Validation of PNG chunks before decoding, and the metadata that Pillow does not apply.

Pillow skips the checksums of image data. Every chunk of a PNG has a CRC-32, so this check detects damage reliably.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..errors import ImageError
from .colour_spaces import profile_of_code_points, profile_of_gamma
from .limits import DAMAGED

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"eXIf", b"acTL", b"fcTL", b"fdAT"})
_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_ORIENTATION_TEXT = (b"Raw profile type exif\0", b"Raw profile type APP1\0", b"XML:com.adobe.xmp\0")
_TEXT_LIMIT = 1 << 20  # Pillow rejects a file with larger text
_PROFILE_LIMIT = 8 << 20
_GREY, _RGB, _PALETTE = 0, 2, 3


@dataclass(frozen=True, kw_only=True)
class PngFacts:
    """The metadata of a PNG, and the file without unneeded chunks."""

    data: bytes  # for Pillow: without text, colour chunks, and the transparent value of grey and RGB
    bits: int  # of each channel
    transparent: tuple[int, ...] | None = None  # grey or RGB value of `bits` bits that is transparent
    profile: bytes | None = None  # ICC; empty if it can't be read
    gamma: float | None = None  # gAMA: encoding exponent of the samples; None if there is a profile or an sRGB chunk
    chromaticities: tuple[float, ...] | None = None  # cHRM: x and y of white, red, green and blue
    code_points: tuple[int, int] | None = None  # cICP: primaries and transfer function (ITU-T H.273)

    def profile_of_colours(self, name: str) -> bytes | None:
        """Return the ICC profile of the samples, built from code points or gamma if the file has none; None for sRGB.

        Raises ImageError for HDR; the message begins with `name`.
        """
        if self.code_points is not None:
            return profile_of_code_points(*self.code_points, name)
        if self.profile is not None or self.gamma is None:
            return self.profile
        return profile_of_gamma(self.gamma, self.chromaticities)


def read_png(data: bytes, name: str) -> PngFacts:
    """Validate and parse a PNG. Raises ImageError that names the damaged or missing chunk."""
    kept: list[bytes] = [SIGNATURE]
    found: dict[bytes, bytes] = {}
    for kind, body, raw in _chunks(data, name):
        found.setdefault(kind, body)
        if _is_kept(kind, body, found[b"IHDR"]):
            kept.append(raw)
    header = found[b"IHDR"]
    transparent = found.get(b"tRNS") if header[9] in (_GREY, _RGB) else None
    facts = PngFacts(data=b"".join(kept), bits=header[8], transparent=_key(transparent, header, name))
    return _with_colours(facts, found)


def _chunks(data: bytes, name: str) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield type, body and all bytes of each chunk up to IEND."""
    at, view = len(SIGNATURE), memoryview(data)
    while True:
        if at + 12 > len(data):
            raise ImageError(f"{name}: {DAMAGED} (the PNG ends before its IEND chunk)")
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise ImageError(f"{name}: {DAMAGED} (chunk {_text(kind)} extends past the end of the file)")
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ImageError(f"{name}: {DAMAGED} (wrong checksum in chunk {_text(kind)})")
        if (kind == b"IHDR") != (at == len(SIGNATURE)) or (kind == b"IHDR" and length != 13):
            raise ImageError(f"{name}: {DAMAGED} (no valid IHDR chunk at its start)")
        yield kind, data[at + 8 : end - 4], data[at:end]
        if kind == b"IEND":
            return
        at = end


def _is_kept(kind: bytes, body: bytes, header: bytes) -> bool:
    if kind == b"tRNS":
        return header[9] == _PALETTE
    if kind in _TEXT:  # only text that can hold an orientation
        return len(body) <= _TEXT_LIMIT and body.startswith(_ORIENTATION_TEXT) and not _inflates(body)
    return kind in _KEPT


def _inflates(text: bytes) -> bool:
    """Return whether compressed text is larger than Pillow's limit."""
    rest = text.partition(b"\0")[2]
    begin = rest[:1] == b"\0" and rest[1:]
    if not begin:
        return False
    try:
        inflater = zlib.decompressobj()
        inflater.decompress(begin, _TEXT_LIMIT)
        return bool(inflater.unconsumed_tail)
    except zlib.error:
        return False


def _key(transparent: bytes | None, header: bytes, name: str) -> tuple[int, ...] | None:
    if transparent is None:
        return None
    channels = 1 if header[9] == _GREY else 3
    if len(transparent) != 2 * channels:
        raise ImageError(f"{name}: {DAMAGED} (chunk tRNS has {len(transparent)} bytes)")
    return struct.unpack(f">{channels}H", transparent)


def _with_colours(facts: PngFacts, found: dict[bytes, bytes]) -> PngFacts:
    """Add the colour description, by the precedence of the PNG specification: cICP, iCCP, sRGB, gAMA and cHRM."""
    if len(found.get(b"cICP", b"")) == 4:
        return replace(facts, code_points=(found[b"cICP"][0], found[b"cICP"][1]))
    if b"iCCP" in found:
        return replace(facts, profile=_profile(found[b"iCCP"]))
    if b"sRGB" in found or len(found.get(b"gAMA", b"")) != 4:
        return facts
    gamma = int.from_bytes(found[b"gAMA"], "big") / 100_000
    chroma = found.get(b"cHRM", b"")
    points = tuple(value / 100_000 for value in struct.unpack(">8I", chroma)) if len(chroma) == 32 else None
    return replace(facts, gamma=gamma, chromaticities=points)


def _profile(chunk: bytes) -> bytes:
    """Return the ICC profile of an iCCP chunk; empty if it is damaged, of unknown compression or over 8 MiB."""
    _, _, rest = chunk.partition(b"\0")
    try:
        inflater = zlib.decompressobj()
        profile = inflater.decompress(rest[1:], _PROFILE_LIMIT) if rest[:1] == b"\0" else b""
    except zlib.error:
        return b""
    return profile if inflater.eof else b""


def _text(kind: bytes) -> str:
    return kind.decode("ascii", "replace") if kind.isalpha() else repr(kind)
