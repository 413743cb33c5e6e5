"""Pillow images from callers. An unchanged image is read again from its file, because Pillow hides damage."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError, UsageError
from ..files import read_bounded
from .limits import MAX_FILE_BYTES, MAX_PIXELS
from .pixels import PixelFacts, bgr, turned
from .reader import HIDES_DAMAGE, DecodedImage, decode_image, orientation_of, stated_profile
from .tiff import depth_of

if TYPE_CHECKING:
    from PIL import Image

CHANGED = "the image was changed after it was opened; its current pixels are used"
UNVERIFIED = "its file can't be read again; damage and colour descriptions that Pillow ignores may go unnoticed"
TURNED = "rotated by the EXIF orientation {} of the Pillow image; if it is already upright, delete that entry"
_NAME = "the image"


def convert_image(image: Image.Image, *, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    """Decode a Pillow image from its file, or from its pixels if it was created or changed in memory.

    Raises ImageError like `decode_image`, UsageError if PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set and the image comes
    from a file, and the exceptions of Pillow.
    """
    from PIL import ImageFile

    if not isinstance(image, ImageFile.ImageFile):
        return _in_memory(image, ())
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UsageError(HIDES_DAMAGE)
    data = _file(image)  # before loading, which closes the file
    frame = image.tell()
    image.load()
    if frame:
        return _in_memory(image, (f"frame {frame + 1} of the file is used; only Pillow's own checks apply",))
    if data is None:
        return _in_memory(image, (UNVERIFIED,))
    decoded = decode_image(data, _NAME, max_pixels=max_pixels)
    return decoded if _matches_file(image, data) else _in_memory(image, (CHANGED,))


def _in_memory(image: Image.Image, notes: tuple[str, ...]) -> DecodedImage:
    image.load()
    bits, white_is_zero = depth_of(getattr(image, "tag_v2", {}))
    facts = PixelFacts(bits=bits, white_is_zero=white_is_zero, profile=stated_profile(image))
    pixels, more = bgr(image, _NAME, facts)
    orientation, unread = orientation_of(image)
    if orientation > 1:
        more = (*more, TURNED.format(orientation))
    return DecodedImage(turned(pixels, orientation), (*notes, *more, *unread))


def _file(image: Image.Image) -> bytes | None:
    """Return the bytes of the image's file; None if it can't be read. Raises ImageError if it is too large."""
    stream = getattr(image, "fp", None)
    try:
        if stream is not None and stream.seekable():
            place = stream.tell()
            stream.seek(0)
            data = stream.read(MAX_FILE_BYTES + 1)
            stream.seek(place)
        else:
            name = getattr(image, "filename", "")
            data = read_bounded(Path(name), MAX_FILE_BYTES) if name else None
    except (OSError, ValueError, AttributeError):
        return None
    if data is not None and len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{_NAME}: the file has more than {MAX_FILE_BYTES >> 20} MiB")
    return data or None


def _matches_file(image: Image.Image, data: bytes) -> bool:
    """Return whether a loaded image has the pixels that Pillow reads from its file."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as fresh:
        fresh.load()
        same = (fresh.mode, fresh.size, fresh.getpalette()) == (image.mode, image.size, image.getpalette())
        return same and fresh.tobytes() == image.tobytes()
