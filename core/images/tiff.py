"""TIFF: what its tags say of the pixels that Pillow does not apply, and damage that Pillow does not notice."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from ..errors import ImageError
from .limits import DAMAGED

_BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _STRIP_BYTES, _PLANAR = 258, 259, 262, 273, 279, 284
_TILES, _TILE_BYTES, _SAMPLE_FORMAT = 324, 325, 339
_RAW, _DEFLATE = 1, (8, 32946)
_SEPARATE = 2
_WHITE_IS_ZERO, _SIGNED = 0, 2
_CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class TiffFacts:
    """The tags of the first picture."""

    bits: int  # of the first channel
    white_is_zero: bool


def read_tiff(tags: Any, data: bytes, name: str) -> TiffFacts:
    """Read Pillow's `tag_v2` of an unloaded TIFF. Raises ImageError for what Pillow reads wrongly,
    and for damaged Deflate data."""
    formats = tags.get(_SAMPLE_FORMAT, (1,))
    bits = tags.get(_BITS, (1,))
    if max(bits) <= 16 and any(value == _SIGNED for value in formats):  # 32 bits are refused whatever they hold
        raise ImageError(f"{name}: signed pixels have no known range; save the image with unsigned 8 or 16 bits")
    if max(bits) > 8 and tags.get(_PLANAR) == _SEPARATE and tags.get(_COMPRESSION, _RAW) == _RAW:
        # Pillow reads such planes as bytes.
        raise ImageError(f"{name}: uncompressed 16-bit planes can't be read; save the TIFF with interleaved channels")
    if tags.get(_COMPRESSION) in _DEFLATE:
        _check_deflate(tags, data, name)
    return TiffFacts(bits=int(bits[0]), white_is_zero=tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO)


def _check_deflate(tags: Any, data: bytes, name: str) -> None:
    """Inflate each strip or tile to its checksum: libtiff stops as soon as it has all pixels."""
    offsets, counts = tags.get(_STRIPS), tags.get(_STRIP_BYTES)
    if offsets is None:
        offsets, counts = tags.get(_TILES), tags.get(_TILE_BYTES)
    if not offsets or not counts or len(offsets) != len(counts):
        raise ImageError(f"{name}: {DAMAGED} (the TIFF does not say where its pixels are)")
    for offset, count in zip(offsets, counts, strict=True):
        try:
            inflater = zlib.decompressobj()
            inflater.decompress(data[offset : offset + count], _CHUNK)
            while inflater.unconsumed_tail:
                inflater.decompress(inflater.unconsumed_tail, _CHUNK)
        except zlib.error as error:
            raise ImageError(f"{name}: {DAMAGED} (a strip of the TIFF: {error})") from error
        if not inflater.eof:
            raise ImageError(f"{name}: {DAMAGED} (a strip of the TIFF ends too early)")
