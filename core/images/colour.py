"""Colours to sRGB, by LittleCMS.

Profiles are applied with the relative colorimetric intent and black point compensation, the default of most editors.
A profile that moves no colour by more than 2 of 255 levels is sRGB under another name and is not applied: converting
would change the low bits that a detector looks at, and nothing that a person sees.
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

UNREADABLE = "its colour profile can't be read; the pixels were taken as sRGB"
PLAIN_CMYK = "its CMYK inks come without a colour profile; the colours are approximate"
_SAME = 2  # levels of 255
_LATTICE = 9  # colours tried in each channel
_NAME_LENGTH = 60
_PROFILE_LIMIT = 8 << 20
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, tuple[str, ...]]:
    """An image of mode L, RGB or CMYK as RGB in sRGB, and notes on what was converted or ignored.

    `profile` holds an ICC profile's bytes; None means that the file has none, and empty bytes one that was damaged.
    """
    if profile is None:
        return image.convert("RGB"), ((PLAIN_CMYK,) if image.mode == "CMYK" else ())
    if not 0 < len(profile) <= _PROFILE_LIMIT:
        return image.convert("RGB"), (UNREADABLE,)
    try:
        transform, name = _transform(profile, image.mode)
    except Exception:  # hostile bytes; LittleCMS's errors share no base of their own
        return image.convert("RGB"), (UNREADABLE,)
    if transform is None:
        return image.convert("RGB"), ()
    if image.mode == "L" and transform.input_mode == "RGB":
        image = image.convert("RGB")
    if image.mode != transform.input_mode:
        return image.convert("RGB"), (f"its colour profile ({name}) is not one for {image.mode}; it was ignored",)
    return _applied(transform, image), (f"its colours were converted to sRGB from {name}",)


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> tuple[Any | None, str]:
    """The transform from a profile to sRGB, or None when it is sRGB itself; and the profile's name."""
    from PIL import Image, ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = _SPACES[source.profile.xcolor_space.strip()]
    name = (
        " ".join(filter(str.isprintable, ImageCms.getProfileDescription(source).split()))[:60] or "an unnamed profile"
    )
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        space,
        "RGB",
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if space == "CMYK":
        return transform, name
    colours = Image.fromarray(_colours(space))
    moved = np.asarray(_applied(transform, colours), int) - np.asarray(colours.convert("RGB"), int)
    return (None if np.abs(moved).max() <= _SAME else transform), name


def _applied(transform: Any, image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # it is for transforms in place alone
    return converted


def _colours(space: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Colours evenly over the whole space: uint8 [1, N] grey or [N, N x N, 3] RGB."""
    if space == "L":
        return np.arange(256, dtype=np.uint8)[None]
    levels = np.linspace(0, 255, _LATTICE).astype(np.uint8)
    red, green, blue = np.meshgrid(levels, levels, levels, indexing="ij")
    return np.stack([red, green, blue], axis=-1).reshape(_LATTICE, -1, 3)
