"""Small copies of image files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from .reader import read_image

_QUALITY = 85


def thumbnail(path: str, *, side: int) -> bytes:
    """Return the centre square of an image file as a JPEG of `side` x `side` pixels. Raises ImageError."""
    pixels = read_image(path).pixels
    height, width = pixels.shape[:2]
    shorter = min(height, width)
    top, left = (height - shorter) // 2, (width - shorter) // 2
    square = np.ascontiguousarray(pixels[top : top + shorter, left : left + shorter, ::-1])
    image = Image.fromarray(square).resize((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
