"""Reading image files, the same way for training and for checking: bounded, quiet, to uint8 BGR.

What is done with the kinds of pixel that are not plain 8-bit RGB:

| pixels | what is done |
| --- | --- |
| 16 bits a channel (and 12-bit grey TIFF) | the high 8 bits are kept, as Pillow does for RGB |
| grey, 1-bit, palette, CMYK, YCbCr | converted to RGB by Pillow; colour profiles are not applied |
| transparency | laid over white |
| an EXIF orientation | the picture is turned upright |
| several frames | the first one is read, and a note says so |
| 32-bit integer or floating point | refused: the range of the values is not known |
"""

from __future__ import annotations

import ctypes
import functools
import io
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, one_line
from ..files import open_regular

if TYPE_CHECKING:
    from PIL import Image

_READ = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 64_000_000
MAX_FILE_BYTES = 256 << 20
MIN_SIDE = 32

_WHITE = (255, 255, 255, 255)
_ORIENTATION_TAG = 0x0112
_BITS_TAG = 258


@dataclass(frozen=True)
class ImageFile:
    """One decoded image."""

    pixels: npt.NDArray[np.uint8]  # [H, W, 3] BGR, contiguous
    notes: tuple[str, ...] = ()  # what the reader had to choose, such as one frame of many


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Read one image file. The header is read first, so an image beyond the limits costs no memory.

    Raises ImageError, in one line that begins with the path, for a file that is missing, empty, too large
    (`max_pixels`, but at most twice PIL.Image.MAX_IMAGE_PIXELS; 256 MiB), too small (a side under 32 pixels),
    truncated, or not one of the formats.
    """
    return decode_image(_read_bytes(Path(path)), str(path), max_pixels)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> ImageFile:
    """Decode an image file's bytes; `name` begins the message of the ImageError. Otherwise like `read_image`."""
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise ImageError(f"{name}: the file is empty")
    _silence()
    limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))  # beyond that Pillow itself refuses
    too_many = f"{name}: the image has more than {limit / 1e6:g} megapixels; shrink it or raise the limit"
    try:
        with Image.open(io.BytesIO(data), formats=_READ) as image:
            _check_size(image.size, name, limit, too_many)
            notes = _notes(image)
            upright = _upright(image)
            return ImageFile(_to_bgr(upright, name), notes)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(too_many) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: not an image of a known format ({', '.join(_READ)})") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        reason = one_line(error)
        raise ImageError(f"{name}: the image is damaged or cut short ({reason})") from error


@functools.cache
def _silence() -> None:
    """Keep damaged files from printing to stderr: what Pillow can't read it raises as well."""
    from PIL import _imaging

    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    try:
        library = ctypes.CDLL(_imaging.__file__)
        handlers = library.TIFFSetErrorHandler, library.TIFFSetWarningHandler
    except (AttributeError, OSError):  # a Pillow whose libtiff can't be reached, or that has none
        return
    for handler in handlers:
        handler.restype = ctypes.c_void_p
        handler(None)


def _read_bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as handle:
            if os.fstat(handle.fileno()).st_size > MAX_FILE_BYTES:
                raise ImageError(f"{path}: the file has more than {MAX_FILE_BYTES >> 20} MiB")
            return handle.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ImageError(f"{path}: can't be read ({error.strerror or error})") from error
    except ValueError as error:  # a null byte in the name
        raise ImageError(f"{str(path)!r}: not a file name") from error


def _check_size(size: tuple[int, int], name: str, max_pixels: int, too_many: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(f"{too_many} (it is {width} x {height})")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name}: the image is {width} x {height}; each side needs at least {MIN_SIDE} pixels")


def _notes(image: Image.Image) -> tuple[str, ...]:
    # MPO, a JPEG with a thumbnail or gain map behind it, is what phones write: one picture to its owner.
    if image.format != "MPO" and getattr(image, "is_animated", False):
        return ("the file holds several frames; only the first was judged",)
    return ()


def _upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; an unreadable EXIF block counts as none."""
    from PIL.Image import Transpose

    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # the block is hostile bytes of its own, and the pixels don't depend on it
        orientation = None
    turn = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }.get(orientation if isinstance(orientation, int) else 1)
    return image if turn is None else image.transpose(turn)


def _to_bgr(image: Image.Image, name: str) -> npt.NDArray[np.uint8]:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # convert() would clip at 255 instead of scaling
        grey = (np.asarray(image, dtype=np.uint32) >> (_grey_bits(image) - 8)).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageError(f"{name}: 32-bit pixels have no known range; save the image with 8 or 16 bits a channel")
    if "A" in image.getbands() or "a" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image)
    rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    return np.ascontiguousarray(rgb[:, :, ::-1])


def _grey_bits(image: Image.Image) -> int:
    """Bits of a grey image deeper than 8: 16, but TIFF has 12-bit ones too."""
    bits = getattr(image, "tag_v2", {}).get(_BITS_TAG, (16,))
    return int(bits[0])
