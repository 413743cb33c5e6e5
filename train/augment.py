"""Augmentation of training images that does not know their class, as cameras, editors and messengers change a picture.

Without it the pixel branch learns the compression, sharpness and framing of the training images in place of the
generators' traces, and is useless on pictures from another camera.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import image_ops as ops
from .image_ops import Image

Draw = np.random.Generator

_FILTERED = ("linear", "cubic", "area", "lanczos")  # kernels of resampling; nearest leaves no trace to learn
_COMPRESSED, _COMPRESSED_AGAIN = 0.6, 0.12  # shares of augmented images


def augment(image: Image, draw: Draw) -> Image:
    """Return a randomly changed copy of BGR uint8 [S, S, 3]. The same state of `draw` gives the same copy."""
    for share, change in _CHANGES:
        if draw.random() < share:
            image = change(image, draw)
    for share in (_COMPRESSED, _COMPRESSED_AGAIN):
        if draw.random() < share:
            image = _compress(image, draw)
    return image


def _tone(image: Image, draw: Draw) -> Image:
    blue, green, red = np.exp(draw.uniform(-0.12, 0.12, 3))
    gamma, contrast = float(np.exp(draw.uniform(-0.35, 0.35))), draw.uniform(0.8, 1.25)
    return ops.tone(image, gamma=gamma, contrast=contrast, white=(blue, green, red))


def _background(image: Image, draw: Draw) -> Image:
    """Replace the surroundings of the face by a colour, a gradient or their own blur."""
    kind, edge = draw.integers(3), draw.uniform(2, 8)
    if kind == 0:
        return ops.replace_background(image, draw.uniform(0, 255, 3), edge=edge)
    if kind == 1:
        return ops.replace_background(image, ops.blur(image, sigma=draw.uniform(6, 20)), edge=edge)
    share = np.linspace(0, 1, len(image))[:, None, None]
    top, bottom = draw.uniform(0, 255, (2, 3))
    return ops.replace_background(image, top * (1 - share) + bottom * share, edge=edge)


def _zoom(image: Image, draw: Draw) -> Image:
    height, width = image.shape[:2]
    side = int(draw.uniform(0.76, 0.99) * min(height, width))
    top, left = draw.integers(0, height - side + 1), draw.integers(0, width - side + 1)
    return ops.crop(image, top=top, left=left, side=side, kernel=_kernel(draw))


def _rescale(image: Image, draw: Draw) -> Image:
    return ops.rescale(image, draw.uniform(0.45, 0.95), down=_kernel(draw), up=_kernel(draw))


def _blur(image: Image, draw: Draw) -> Image:
    return ops.blur(image, sigma=draw.uniform(0.3, 1.6))


def _sharpen(image: Image, draw: Draw) -> Image:
    return ops.sharpen(image, sigma=draw.uniform(0.4, 1.4), amount=draw.uniform(0.2, 1.2))


def _denoise(image: Image, draw: Draw) -> Image:
    return ops.median(image) if draw.random() < 0.3 else ops.smooth(image, strength=draw.uniform(8, 30))


def _noise(image: Image, draw: Draw) -> Image:
    return ops.noise(image, sigma=draw.uniform(0.5, 8), draw=draw, grain=0.6 if draw.random() < 0.5 else 0.0)


def _compress(image: Image, draw: Draw) -> Image:
    if draw.random() < 0.2:
        return ops.webp(image, quality=int(draw.integers(50, 96)))
    low = 35 if draw.random() < 0.5 else 70
    return ops.jpeg(image, quality=int(draw.integers(low, 98)))


def _kernel(draw: Draw) -> str:
    return str(_FILTERED[draw.integers(len(_FILTERED))])


_CHANGES: tuple[tuple[float, Callable[[Image, Draw], Image]], ...] = (
    (0.5, _tone),
    (0.12, _background),
    (0.35, _zoom),
    (0.2, _rescale),
    (0.15, _blur),
    (0.2, _sharpen),
    (0.12, _denoise),
    (0.25, _noise),
)
