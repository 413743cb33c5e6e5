"""Conversion of colours to sRGB, by LittleCMS.

Profiles are applied with the relative colorimetric intent and black point compensation, the default of most editors.
A profile that shifts no colour by more than 2 of 255 levels is equivalent to sRGB and is not applied: the conversion
would be invisible, but would change the low bits that the detector relies on.
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

UNREADABLE = "its colour profile can't be read; its pixels are treated as sRGB"
PLAIN_CMYK = "its CMYK pixels have no colour profile; the colours are approximate"
_MAX_SHIFT = 2  # of 255 levels
_LATTICE = 9  # sampled levels per channel
_NAME_LENGTH = 60
_PROFILE_LIMIT = 8 << 20
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert an image of mode L, RGB or CMYK to RGB in sRGB. Returns it and notes on conversions.

    `profile` holds the bytes of an ICC profile; None if the file has none, empty if it is damaged.
    """
    if profile is None:
        return image.convert("RGB"), ((PLAIN_CMYK,) if image.mode == "CMYK" else ())
    if not 0 < len(profile) <= _PROFILE_LIMIT:
        return image.convert("RGB"), (UNREADABLE,)
    try:
        transform, name = _transform(profile, image.mode)
    except Exception:  # untrusted bytes; the errors of LittleCMS share no base class
        return image.convert("RGB"), (UNREADABLE,)
    if transform is None:
        return image.convert("RGB"), ()
    if image.mode == "L" and transform.input_mode == "RGB":
        image = image.convert("RGB")
    if image.mode != transform.input_mode:
        return image.convert("RGB"), (f"its colour profile ({name}) is not for {image.mode} pixels and was ignored",)
    return _applied(transform, image), (f"its colours were converted from {name} to sRGB",)


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> tuple[Any | None, str]:
    """Return the transform from a profile to sRGB, None if they are equivalent, and the profile's name."""
    from PIL import Image, ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    space = _SPACES[source.profile.xcolor_space.strip()]
    name = (
        " ".join(filter(str.isprintable, ImageCms.getProfileDescription(source).split()))[:_NAME_LENGTH]
        or "an unnamed profile"
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
    return (None if np.abs(moved).max() <= _MAX_SHIFT else transform), name


def _applied(transform: Any, image: Image.Image) -> Image.Image:
    from PIL import ImageCms

    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None  # None is returned only for in-place transforms
    return converted


def _colours(space: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return evenly spaced colours: uint8 [1, 256] grey or [N, N x N, 3] RGB."""
    if space == "L":
        return np.arange(256, dtype=np.uint8)[None]
    levels = np.linspace(0, 255, _LATTICE).astype(np.uint8)
    red, green, blue = np.meshgrid(levels, levels, levels, indexing="ij")
    return np.stack([red, green, blue], axis=-1).reshape(_LATTICE, -1, 3)
