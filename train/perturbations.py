"""Fixed grids of perturbations, which robustness is measured on: compression and editing, cameras and backgrounds.

Sizes are in pixels of the image as it is stored. Noise is seeded by the pixels, so that every figure repeats exactly.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from . import image_ops as ops
from .image_ops import Image

Perturbation = Callable[[Image, np.random.Generator], Image]

_MESSENGER_SIDE = 1600  # pixels; messengers downsample larger pictures


def perturbed(name: str, perturb: Perturbation, image: Image) -> Image:
    """Return a perturbed copy of BGR uint8 [H, W, 3]. The same image gives the same copy."""
    seed = [zlib.crc32(np.ascontiguousarray(image).data), zlib.crc32(name.encode())]
    return perturb(image, np.random.default_rng(seed))


def _messenger(image: Image, draw: np.random.Generator) -> Image:
    """Downsample to a bounded side, sharpen a little, compress hard, as messengers do, and once more on forwarding."""
    height, width = image.shape[:2]
    factor = min(1.0, _MESSENGER_SIDE / max(height, width), draw.uniform(0.75, 1.0))
    small = ops.resize(image, max(1, round(width * factor)), max(1, round(height * factor)), kernel="area")
    sent = ops.jpeg(ops.sharpen(small, sigma=0.8, amount=0.3), quality=75)
    return ops.jpeg(sent, quality=int(draw.integers(70, 86)))


def _screenshot(image: Image, draw: np.random.Generator) -> Image:
    """Show at another size, with the tone of a display, and save as WebP."""
    height, width = image.shape[:2]
    factor = draw.uniform(0.8, 1.25)
    shown = ops.resize(image, max(1, round(width * factor)), max(1, round(height * factor)), kernel="linear")
    return ops.webp(ops.tone(shown, gamma=1.08, contrast=1.05), quality=80)


def _cut(image: Image, draw: np.random.Generator) -> Image:
    side = round(0.8 * min(image.shape[:2]))
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return ops.crop(image, top=top, left=left, side=side)


def _phone(image: Image, draw: np.random.Generator) -> Image:
    toned = ops.smooth(ops.tone(image, gamma=0.9), strength=15)
    return ops.jpeg(ops.sharpen(toned, sigma=1.0, amount=0.6), quality=80)


def _webcam(image: Image, draw: np.random.Generator) -> Image:
    noisy = ops.noise(ops.rescale(image, 0.8, up="linear"), sigma=2, draw=draw, grain=0.6)
    return ops.jpeg(noisy, quality=60)


def _own_blur(image: Image, draw: np.random.Generator) -> Image:
    blurred = cv2.GaussianBlur(image, (0, 0), max(image.shape) / 20)
    return ops.replace_background(image, np.asarray(blurred, np.uint8))


def _plain(operation: Callable[[Image], Image]) -> Perturbation:
    return lambda image, draw: operation(image)


ROBUSTNESS: Mapping[str, Perturbation] = {
    "as stored": _plain(lambda x: x),
    "JPEG 90": _plain(lambda x: ops.jpeg(x, quality=90)),
    "JPEG 70": _plain(lambda x: ops.jpeg(x, quality=70)),
    "JPEG 50": _plain(lambda x: ops.jpeg(x, quality=50)),
    "JPEG 30": _plain(lambda x: ops.jpeg(x, quality=30)),
    "WebP 80": _plain(lambda x: ops.webp(x, quality=80)),
    "resize 0.75": _plain(lambda x: ops.rescale(x, 0.75)),
    "resize 0.5": _plain(lambda x: ops.rescale(x, 0.5)),
    "blur 1": _plain(lambda x: ops.blur(x, sigma=1)),
    "blur 2": _plain(lambda x: ops.blur(x, sigma=2)),
    "noise 5": lambda x, draw: ops.noise(x, sigma=5, draw=draw),
    "noise 10": lambda x, draw: ops.noise(x, sigma=10, draw=draw),
    "crop 80 %": _cut,
    "messenger": _messenger,
    "screenshot": _screenshot,
}

CAMERAS: Mapping[str, Perturbation] = {
    "as stored": _plain(lambda x: x),
    "bright gamma": _plain(lambda x: ops.tone(x, gamma=0.75)),
    "dark gamma": _plain(lambda x: ops.tone(x, gamma=1.35)),
    "warm, JPEG 75": _plain(lambda x: ops.jpeg(ops.tone(x, white=(0.85, 1.0, 1.12)), quality=75)),
    "phone": _phone,
    "denoised": _plain(lambda x: ops.smooth(x, strength=20)),
    "noisy sensor": lambda x, draw: ops.jpeg(ops.noise(x, sigma=4, draw=draw), quality=85),
    "soft lens": _plain(lambda x: ops.rescale(x, 0.7, up="linear")),
    "webcam": _webcam,
    "light background": _plain(lambda x: ops.replace_background(x, np.array([235.0, 235.0, 235.0]))),
    "dark background": _plain(lambda x: ops.replace_background(x, np.array([40.0, 35.0, 30.0]))),
    "blurred background": _own_blur,
}

GRIDS: Mapping[str, Mapping[str, Perturbation]] = {"robustness": ROBUSTNESS, "cameras": CAMERAS}
