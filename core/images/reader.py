"""Decoding of image files to uint8 BGR, the same for training and inference.

The format is recognised by content. Pixels that are not plain 8-bit sRGB are treated as follows:

| pixels | treatment |
| --- | --- |
| 16 bits a channel (and 12-bit grey TIFF) | the high 8 bits are kept |
| grey, 1-bit, palette, CMYK, YCbCr | converted to RGB |
| an ICC profile, or a PNG's gAMA and cHRM, other than sRGB | converted to sRGB, with a note |
| colours of more than 8 bits in JPEG 2000 | rejected: Pillow rounds them incorrectly |
| transparency | composited on white, with a note |
| an EXIF orientation | the picture is rotated upright |
| several frames | the first one is used, with a note |
| 32-bit integer, signed or floating point | rejected: the range of the values is unknown |

Damage that a decoder reports, even as a warning, is an error. Unneeded metadata is not read.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..errors import ImageError, UsageError, one_line
from ..files import open_regular
from .colour_spaces import profile_of_code_points, profile_of_gamma
from .embedded_profiles import embedded_profile
from .formats import FORMATS, HEAD_BYTES, format_of
from .jpeg import UNCHECKED, UncheckedError, decode_jpeg
from .libtiff import damage_reports
from .limits import DAMAGED, MAX_FILE_BYTES, MAX_PIXELS, MIN_SIDE
from .pixels import PixelFacts, bgr, turned
from .plugins import require_decoder
from .png import PngFacts, read_png
from .tiff import read_tiff

if TYPE_CHECKING:
    from PIL import Image

FRAMES = "the file has several frames; only the first is used"
PART = "the first frame covers only part of the GIF's canvas; the rest is filled"
HIDES_DAMAGE = "can't detect damaged images: PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set; set it to False"
NO_ORIENTATION = "its EXIF block can't be read; the image is not rotated"
OWN_ORIENTATION = "its EXIF orientation is ignored: JPEG XL stores the orientation itself"

_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class DecodedImage:
    """One decoded image."""

    pixels: npt.NDArray[np.uint8]  # [H, W, 3] BGR, contiguous
    notes: tuple[str, ...] = ()  # conversions and choices of the reader, such as the use of one frame of many


def read_image(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Read one image file. Its size is checked before its pixels are decoded.

    Raises ImageError for a file that is missing, empty, damaged, truncated, of an unknown format, too small (a side
    below 32 pixels) or too large (over 256 MiB, `max_pixels` or twice PIL.Image.MAX_IMAGE_PIXELS); the message is one
    line that begins with the path. Raises UsageError if PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set.
    """
    return decode_image(_read_bytes(Path(path)), str(path), max_pixels=max_pixels)


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode the bytes of an image file, like `read_image`. The message of an ImageError begins with `name`."""
    from PIL import Image, ImageFile, UnidentifiedImageError

    if not data:
        raise ImageError(f"{name}: the file is empty")
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UsageError(HIDES_DAMAGE)
    kind = format_of(data[:HEAD_BYTES])
    if kind is None:
        raise ImageError(f"{name}: not an image of a supported format ({', '.join(FORMATS)})")
    require_decoder(kind, name)
    _prepare_pillow()
    limit = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))  # above it Pillow itself raises
    too_many = f"{name}: the image has more than {limit / 1e6:g} megapixels; shrink it or raise the limit"
    try:
        with damage_reports() as reports:
            read = _decode(data, kind, name, limit=limit, too_many=too_many)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(too_many) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{name}: {DAMAGED}, or its {kind} pixel format is not supported") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes
        raise ImageError(f"{name}: {DAMAGED} ({one_line(error)})") from error
    if reports:
        raise ImageError(f"{name}: {DAMAGED} ({reports[0]})")
    return read


def _decode(data: bytes, kind: str, name: str, *, limit: int, too_many: str) -> DecodedImage:
    from PIL import Image

    png = read_png(data, name) if kind == "PNG" else None
    if kind == "JPEG2000":
        _check_codestream(data, name)
        _check_depth(data, name)
    with Image.open(io.BytesIO(png.data if png else data), formats=[kind]) as image:
        _check_size(image.size, name, limit, too_many=too_many)
        frames = _frames(image)
        if kind == "JPEG":
            pixels, notes = _jpeg_pixels(image, data, name)
        else:
            facts = _facts(image, data, name, kind=kind, png=png)
            image.load()
            pixels, notes = bgr(image, name, facts)
        # Read after decoding: the EXIF of a PNG may follow its pixels, and Pillow rotates a TIFF while loading it.
        orientation, unread = orientation_of(image)
        if orientation > 1 and kind == "JXL":  # its decoder already rotates by the codestream, as specified
            orientation, unread = 1, (OWN_ORIENTATION,)
        return DecodedImage(turned(pixels, orientation), (*frames, *notes, *unread))


def _jpeg_pixels(image: Image.Image, data: bytes, name: str) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    profile = image.info.get("icc_profile")
    try:
        return _checked_jpeg(image, data, name, profile=profile)
    except UncheckedError:
        image.load()
        pixels, notes = bgr(image, name, PixelFacts(profile=profile))
        return pixels, (UNCHECKED, *notes)


def _checked_jpeg(
    image: Image.Image, data: bytes, name: str, *, profile: bytes | None
) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    from PIL import Image

    if image.mode == "CMYK":  # Adobe stores inverted inks, which Pillow handles
        _, warned = decode_jpeg(data, "CMYK", name)
        image.load()
        pixels, notes = bgr(image, name, PixelFacts(profile=profile))
    elif profile is None:
        return decode_jpeg(data, "BGR", name)
    else:
        decoded, warned = decode_jpeg(data, "GRAY" if image.mode == "L" else "RGB", name)
        pixels, notes = bgr(Image.fromarray(decoded.squeeze()), name, PixelFacts(profile=profile))
    return pixels, (*warned, *notes)


def _facts(image: Image.Image, data: bytes, name: str, *, kind: str, png: PngFacts | None) -> PixelFacts:
    """Return the properties that Pillow does not apply. Call it before loading: a rotated TIFF loses its tags."""
    if png is not None:
        return PixelFacts(transparent=png.transparent, key_bits=png.bits, profile=png.profile_of_colours(name))
    profile = stated_profile(image)
    if image.format == "TIFF":
        facts = read_tiff(image.tag_v2, data, name)  # type: ignore[attr-defined]
        return PixelFacts(bits=facts.bits, white_is_zero=facts.white_is_zero, profile=profile)
    if profile is None and image.format in ("AVIF", "HEIF"):
        profile = _profile_of_nclx(data, name)
    return PixelFacts(profile=embedded_profile(data, kind) if profile is None else profile)


def stated_profile(image: Image.Image) -> bytes | None:
    """Return the ICC profile of a Pillow image, or one built from its PNG's gamma and primaries; None for sRGB."""
    profile: bytes | None = image.info.get("icc_profile")
    gamma = image.info.get("gamma")
    if profile is not None or gamma is None or "srgb" in image.info:
        return profile
    return profile_of_gamma(gamma, image.info.get("chromaticity"))


def _profile_of_nclx(data: bytes, name: str) -> bytes | None:
    """Return the profile of the first `nclx` box (ISO/IEC 23008-12, 6.5.5), which decoders do not apply."""
    at = data.find(b"colrnclx")
    if not 0 <= at <= len(data) - 12:
        return None
    primaries, transfer = struct.unpack_from(">2H", data, at + 8)
    return profile_of_code_points(primaries, transfer, name)


def _check_codestream(data: bytes, name: str) -> None:
    """Raise ImageError if a JPEG 2000 codestream lacks its end marker, EOC (ISO/IEC 15444-1, A.2).

    Decoders accept such a codestream. EOC can't occur within it.
    """
    if data.rfind(b"\xff\xd9") < data.find(b"\xff\x4f\xff\x51"):
        raise ImageError(f"{name}: {DAMAGED} (the JPEG 2000 codestream has no end)")


def _check_depth(data: bytes, name: str) -> None:
    """Raise ImageError for colours of more than 8 bits and grey of 9: Pillow rounds them, and white becomes black."""
    size = data.find(b"\xff\x4f\xff\x51") + 4  # the SIZ segment (ISO/IEC 15444-1, A.5.1)
    channels = int.from_bytes(data[size + 36 : size + 38], "big")
    bits = max((1 + (depth & 0x7F) for depth in data[size + 38 : size + 38 + 3 * channels : 3]), default=8)
    if bits == 9 or (channels > 1 and bits > 8):
        raise ImageError(
            f"{name}: JPEG 2000 with {bits} bits per channel is not supported; save the image with 8 bits, or as PNG"
        )


@functools.cache
def _prepare_pillow() -> None:
    """Silence Pillow's warnings and logs: it raises the errors as well."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def _read_bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as handle:
            if os.fstat(handle.fileno()).st_size > MAX_FILE_BYTES:
                raise ImageError(f"{path}: the file has more than {MAX_FILE_BYTES >> 20} MiB")
            return handle.read(MAX_FILE_BYTES)
    except OSError as error:
        raise ImageError(f"{path}: can't be read ({error.strerror or error})") from error
    except ValueError as error:  # a null byte in the name
        raise ImageError(f"{str(path)!r}: not a valid file name") from error


def _check_size(size: tuple[int, int], name: str, max_pixels: int, *, too_many: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError(f"{too_many} (it is {width} x {height})")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{name}: the image is {width} x {height}; each side needs at least {MIN_SIDE} pixels")


def _frames(image: Image.Image) -> tuple[str, ...]:
    # Phones write MPO, a JPEG followed by a thumbnail or gain map: it counts as one picture.
    several = image.format != "MPO" and getattr(image, "is_animated", False)
    notes = (FRAMES,) if several else ()
    tile = image.tile[0] if image.format == "GIF" and image.tile else None  # type: ignore[attr-defined]
    return (*notes, PART) if tile is not None and tuple(tile[1]) != (0, 0, *image.size) else notes


def orientation_of(image: Image.Image) -> tuple[int, tuple[str, ...]]:
    """Return the EXIF orientation, 1 to 8 (1 if missing or invalid), and a note if the EXIF block can't be read."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # untrusted bytes; the pixels don't depend on them
        return 1, (NO_ORIENTATION,)
    return (orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1), ()
