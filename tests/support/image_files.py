"""Image files of kinds that no library writes: PNG of any depth, interlacing and chunks; BMP of any header."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # PNG colour types
_PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def encoded(image: Image.Image, *, kind: str = "PNG", **options) -> bytes:
    """A file's bytes as Pillow writes them."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def packed(samples: np.ndarray, bits: int) -> list[bytes]:
    """Rows of samples [H, N] with `bits` bits each, the first sample in the highest bits."""
    if bits == 16:
        return [row.astype(">u2").tobytes() for row in samples]
    shifts = np.arange(bits - 1, -1, -1)
    return [np.packbits((row[:, None] >> shifts & 1).astype(np.uint8)).tobytes() for row in samples]


def png(samples: np.ndarray, bits: int, colour: int, *, interlaced: bool = False, chunks: bytes = b"") -> bytes:
    """A PNG of samples [H, W] or [H, W, C], with more `chunks` before its pixels."""
    height, width = samples.shape[:2]
    planes = samples.reshape(height, width, -1)
    parts = [planes[y::dy, x::dx] for y, x, dy, dx in _PASSES] if interlaced else [planes]
    rows = [row for part in parts if part.size for row in packed(part.reshape(len(part), -1), bits)]
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunks + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def bmp(
    rows: list[bytes] | bytes,
    size: tuple[int, int],
    bits: int,
    *,
    compression: int = 0,
    palette: bytes = b"",
    masks: tuple[int, ...] = (),
    header: int = 40,
    top_down: bool = False,
) -> bytes:
    """A BMP of `size` (width, height), from rows from the top, or from a body that is encoded already."""
    width, height = size
    if isinstance(rows, list):
        body = b"".join(row + b"\0" * (-len(row) % 4) for row in (rows if top_down else rows[::-1]))
    else:
        body = rows
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    else:
        tall = -height if top_down else height
        counts = (2835, 2835, len(palette) // 4, 0)
        info = struct.pack("<IiiHHIIiiII", header, width, tall, 1, bits, compression, len(body), *counts)
        info = (info + struct.pack(f"<{len(masks)}I", *masks)).ljust(header, b"\0")
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + palette + body


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] over white by alpha [H, W] of 0 to 255: float."""
    share = alpha[..., None] / 255
    return rgb * share + 255 * (1 - share)


def scaled(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples of `bits` bits as 0 to 255; the high byte of more than 8 bits."""
    return samples * 255 // (2**bits - 1) if bits <= 8 else samples >> (bits - 8)
