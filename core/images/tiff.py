"""TIFF tags that Pillow does not apply, and checks for damage that Pillow does not notice."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..errors import ImageError, one_line
from .limits import DAMAGED

_BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _STRIP_BYTES, _PLANAR = 258, 259, 262, 273, 279, 284
_TILES, _TILE_BYTES, _SAMPLE_FORMAT, _JPEG_TABLES = 324, 325, 339, 347
_SUBFILE, _PREVIEW, _DNG_VERSION, _CR2 = 254, 1, 50706, b"CR"
_RAW, _JPEG, _DEFLATE = 1, 7, (8, 32946)
_SEPARATE = 2
_WHITE_IS_ZERO, _SIGNED = 0, 2
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class TiffFacts:
    """The tags of the first picture."""

    bits: int  # of the first channel
    white_is_zero: bool


def read_tiff(tags: Any, data: bytes, name: str) -> TiffFacts:
    """Read Pillow's `tag_v2` of an unloaded TIFF.

    Raises ImageError for pixel formats that Pillow decodes incorrectly, and for damaged Deflate or JPEG data.
    """
    if tags.get(_SUBFILE, 0) & _PREVIEW or _DNG_VERSION in tags or data[8:10] == _CR2:
        raise ImageError(f"{name}: the TIFF begins with the preview of a raw file; convert it to JPEG or TIFF")
    formats = tags.get(_SAMPLE_FORMAT, (1,))
    bits = tags.get(_BITS, (1,))
    if max(bits) <= 16 and any(value == _SIGNED for value in formats):  # 32-bit pixels are always rejected
        raise ImageError(f"{name}: signed pixels have no known range; save the image with unsigned 8 or 16 bits")
    if max(bits) > 8 and tags.get(_PLANAR) == _SEPARATE and tags.get(_COMPRESSION, _RAW) == _RAW:
        # Pillow reads such planes as 8-bit values.
        raise ImageError(
            f"{name}: uncompressed 16-bit planes are not supported; save the TIFF with interleaved channels"
        )
    if tags.get(_COMPRESSION) in _DEFLATE:
        _check_strips(tags, data, name, check=_inflate)
    elif tags.get(_COMPRESSION) == _JPEG:
        _check_strips(tags, data, name, check=partial(_decode_jpeg_strip, tables=tags.get(_JPEG_TABLES, b"")))
    return TiffFacts(bits=int(bits[0]), white_is_zero=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def depth_of(tags: Any) -> tuple[int, bool]:
    """Return the bits of a grey value of more than 8, and whether 0 is white; 16 and False without tags."""
    bits = int(tags.get(_BITS, (16,))[0])
    return (bits, tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO) if bits > 8 else (16, False)


def _check_strips(tags: Any, data: bytes, name: str, *, check: Callable[[bytes], None]) -> None:
    """Check each strip or tile: libtiff stops once it has all pixels, and Pillow discards its warnings."""
    offsets, counts = tags.get(_STRIPS), tags.get(_STRIP_BYTES)
    if offsets is None:
        offsets, counts = tags.get(_TILES), tags.get(_TILE_BYTES)
    if not offsets or not counts or len(offsets) != len(counts):
        raise ImageError(f"{name}: {DAMAGED} (the TIFF does not state the offsets of its pixels)")
    for offset, count in zip(offsets, counts, strict=True):
        try:
            check(data[offset : offset + count])
        except (zlib.error, ValueError) as error:
            raise ImageError(f"{name}: {DAMAGED} (a strip of the TIFF: {one_line(error)})") from error


def _inflate(strip: bytes) -> None:
    """Inflate a strip up to its checksum. Raises zlib.error, or ValueError if it ends too early."""
    inflater = zlib.decompressobj()
    inflater.decompress(strip, _CHUNK)
    while inflater.unconsumed_tail:
        inflater.decompress(inflater.unconsumed_tail, _CHUNK)
    if not inflater.eof:
        raise ValueError("it ends too early")


def _decode_jpeg_strip(strip: bytes, tables: bytes) -> None:
    """Decode a strip with the tables of a tag (TIFF Technical Note 2). Raises ValueError for any warning."""
    import simplejpeg

    joined = tables[:-2] + strip[2:] if tables else strip  # without the EOI of the tables and the SOI of the strip
    header = simplejpeg.decode_jpeg_header(joined, strict=True)
    simplejpeg.decode_jpeg(joined, "CMYK" if header[2] in ("CMYK", "YCCK") else "GRAY", strict=True)
