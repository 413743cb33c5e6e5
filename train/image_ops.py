"""Image operations of cameras, editors and messengers, for augmentation and for robustness measurements.

Every function takes and returns BGR uint8 [H, W, 3] and computes the same result on every call; what is random takes a
generator. Sizes are in pixels, standard deviations of blurs too; noise is in grey levels of 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Operation = Callable[[Image], Image]

KERNELS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def to_uint8(values: npt.NDArray[np.floating]) -> Image:
    """Round and clip to 0 to 255."""
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def jpeg(image: Image, *, quality: int) -> Image:
    """Compress as JPEG with libjpeg's quality, 1 to 100, and 4:2:0 chroma, and decode."""
    return _encoded(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def webp(image: Image, *, quality: int) -> Image:
    """Compress as lossy WebP, quality 1 to 100, and decode."""
    return _encoded(image, ".webp", [cv2.IMWRITE_WEBP_QUALITY, quality])


def resize(image: Image, width: int, height: int, *, kernel: str) -> Image:
    """Resample with one of `KERNELS`. Only "area" filters before downsampling, so the others alias."""
    return np.asarray(cv2.resize(image, (width, height), interpolation=KERNELS[kernel]), np.uint8)


def rescale(image: Image, factor: float, *, down: str = "area", up: str = "cubic") -> Image:
    """Downsample by `factor` < 1 and upsample to the original size."""
    height, width = image.shape[:2]
    small = resize(image, max(1, round(width * factor)), max(1, round(height * factor)), kernel=down)
    return resize(small, width, height, kernel=up)


def crop(image: Image, *, top: int, left: int, side: int, kernel: str = "linear") -> Image:
    """Cut a square and resample it to the original size."""
    height, width = image.shape[:2]
    return resize(np.ascontiguousarray(image[top : top + side, left : left + side]), width, height, kernel=kernel)


def blur(image: Image, *, sigma: float) -> Image:
    """Blur with a Gaussian."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def sharpen(image: Image, *, sigma: float, amount: float) -> Image:
    """Add `amount` times the difference to a Gaussian blur (unsharp masking)."""
    return np.asarray(cv2.addWeighted(image, 1 + amount, cv2.GaussianBlur(image, (0, 0), sigma), -amount, 0), np.uint8)


def smooth(image: Image, *, strength: float) -> Image:
    """Denoise with an edge-preserving bilateral filter, `strength` in grey levels."""
    return np.asarray(cv2.bilateralFilter(image, 5, strength, 2), np.uint8)


def median(image: Image) -> Image:
    """Denoise with a median of 3 x 3 pixels."""
    return np.asarray(cv2.medianBlur(image, 3), np.uint8)


def noise(image: Image, *, sigma: float, draw: np.random.Generator, grain: float = 0.0) -> Image:
    """Add Gaussian noise of standard deviation `sigma`; with `grain` > 0 it is blurred by that many pixels first."""
    added = draw.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)
    if grain:
        added = cv2.GaussianBlur(added, (0, 0), grain)
    return to_uint8(image + added)


def tone(
    image: Image, *, gamma: float = 1.0, contrast: float = 1.0, white: tuple[float, float, float] = (1.0, 1.0, 1.0)
) -> Image:
    """Apply gamma, contrast about mid-grey, and a gain per channel (B, G, R), through one table per channel."""
    levels = np.linspace(0.0, 1.0, 256)
    curve = np.clip((levels**gamma - 0.5) * contrast + 0.5, 0.0, 1.0)
    table = np.stack([to_uint8(255 * curve * gain) for gain in white], axis=-1)
    return np.asarray(cv2.LUT(image, table[:, None]), np.uint8)


def replace_background(image: Image, background: npt.NDArray[np.floating] | Image, *, edge: float = 4.0) -> Image:
    """Blend `background`, [H, W, 3] or broadcastable to it, in around an upright ellipse about the centre.

    The ellipse covers the face of a crop of 1.7 times the face; `edge` is the blur of its border.
    """
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.float32)
    axes = (round(0.32 * width), round(0.42 * height))
    cv2.ellipse(mask, (width // 2, height // 2), axes, 0, 0, 360, 1.0, -1)
    share = cv2.GaussianBlur(mask, (0, 0), edge)[..., None]
    return to_uint8(image * share + background * (1 - share))


def _encoded(image: Image, suffix: str, options: list[int]) -> Image:
    written, data = cv2.imencode(suffix, image, options)
    if not written:
        raise ValueError(f"OpenCV can't write an image of shape {image.shape} as {suffix}")
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
