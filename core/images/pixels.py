"""Conversion of decoded images to uint8 BGR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import ImageError
from .colour import to_srgb

if TYPE_CHECKING:
    from PIL import Image

COMPOSITED = "its transparent parts were composited on white"

Pixels = npt.NDArray[np.uint8]
_WHITE = (255, 255, 255, 255)
_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")


@dataclass(frozen=True, kw_only=True)
class PixelFacts:
    """Properties of a file's pixels that Pillow does not apply."""

    bits: int = 16  # of a grey value in Pillow's 16-bit modes
    white_is_zero: bool = False  # of a grey value in those modes; Pillow itself inverts values of up to 8 bits
    transparent: tuple[int, ...] | None = None  # the grey or RGB value that is transparent, of `key_bits` bits
    key_bits: int = 8
    profile: bytes | None = None  # ICC; empty if it is damaged


def bgr(image: Image.Image, name: str, facts: PixelFacts) -> tuple[Pixels, tuple[str, ...]]:
    """Convert a loaded Pillow image to sRGB pixels, uint8 [H, W, 3] BGR, without rotation. Also returns notes.

    Raises ImageError for 32-bit and floating-point pixels, whose range is unknown.
    """
    alpha = _key_alpha(image, name, facts)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = _high_byte(image, facts)
    elif image.mode in ("I", "F"):
        raise ImageError(f"{name}: 32-bit pixels have no known range; save the image with 8 or 16 bits a channel")
    if alpha is None:
        image, alpha = _split_alpha(image)
    if image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    image, notes = to_srgb(image, facts.profile)
    if alpha is not None and np.asarray(alpha).min() < 255:
        image, notes = _on_white(image, alpha), (*notes, COMPOSITED)
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1]), notes


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return pixels [H, W, 3] rotated upright by the EXIF `orientation`, 1 to 8 (EXIF 3.0, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _high_byte(image: Image.Image, facts: PixelFacts) -> Image.Image:
    """Reduce grey of more than 8 bits to 8. Pillow's own conversion clips instead of scaling."""
    from PIL import Image

    grey = (np.asarray(image, dtype=np.uint32) >> (facts.bits - 8)).astype(np.uint8)
    return Image.fromarray(~grey if facts.white_is_zero else grey)


def _key_alpha(image: Image.Image, name: str, facts: PixelFacts) -> Image.Image | None:
    """Return the alpha of an image with a transparent colour; None if it has none."""
    from PIL import Image

    if facts.transparent is None:
        return None
    values = np.asarray(image)
    if facts.key_bits == 16 and image.mode == "RGB":
        raise ImageError(f"{name}: 16-bit RGB with a transparent colour can't be read; save it with an alpha channel")
    if facts.key_bits < 8:  # Pillow scales them to 0 .. 255, or to False and True
        key = [value * (255 // (2**facts.key_bits - 1)) for value in facts.transparent]
        values = values.astype(np.uint8) * 255 if image.mode == "1" else values
    else:
        key = list(facts.transparent)
    hit = (values == key).all(axis=2) if values.ndim == 3 else values == key[0]
    return Image.fromarray(np.where(hit, 0, 255).astype(np.uint8))


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours (mode RGB if there is alpha) and the alpha channel; None if there is none."""
    if image.mode not in _ALPHA_MODES and "transparency" not in image.info:
        return image, None
    if image.mode == "La":  # premultiplied; Pillow converts it only to LA
        image = image.convert("LA")
    image = image.convert("RGBA")
    return image.convert("RGB"), image.getchannel("A")


def _on_white(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    from PIL import Image

    image = rgb.copy()
    image.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")
