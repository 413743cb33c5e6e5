"""NumPy reference of the preprocessing: resize the short side to S, centre crop, RGB in [-1, 1].

An antialiased bilinear resize is a weighted sum along each axis: output i weights the input pixels by a triangle
around c = (i + 1/2) n / m of half width max(1, n / m) pixels, clipped at the border and normalised. This matches
torchvision's v2 functional resize with antialias on float32 images; the tests compare golden tensors.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (height, width) in pixels after resizing the short side to `size`; the long side is rounded down."""
    short = min(height, width)
    return (
        size if height == short else size * height // short,
        size if width == short else size * width // short,
    )


def crop_origin(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (top, left) of the centre crop of size x size pixels; halves round to the even number."""
    return round((height - size) / 2), round((width - size) / 2)


@lru_cache(256)  # a camera calls it for every frame
def seen(height: int, width: int, size: int) -> tuple[slice, slice]:
    """Return the rows and columns of a frame of height x width pixels that the output depends on.

    Computed in integers, so that they are exactly the pixels that the kernels read. The others need not be copied.
    """
    tall, wide = resized_shape(height, width, size)
    top, left = crop_origin(tall, wide, size)
    return _seen(height, tall, top, size=size), _seen(width, wide, left, size=size)


def _seen(length: int, resized: int, origin: int, *, size: int) -> slice:
    """Return the pixels along one axis under the triangles of outputs origin ... origin + size - 1.

    Output i has the centre c = (i + 1/2) n / m and the half width h = max(1, n / m). Pixel k is sampled at its middle,
    k + 1/2, so that it counts if c - h - 1/2 <= k < c + h + 1/2, rounded outwards to integers.
    """
    unit, half = 2 * resized, 2 * max(length, resized)
    first, last = length * (2 * origin + 1), length * (2 * (origin + size) - 1)
    return slice(max(0, (first - half + resized) // unit), min(length, (last + half + resized) // unit))


def _weights(length: int, resized: int, origin: int, *, size: int) -> npt.NDArray[np.float64]:
    """Return the weights of `length` pixels in outputs origin ... origin + size - 1: float64 [size, length]."""
    scale = length / resized
    half = max(1.0, scale)
    centre = scale * (np.arange(origin, origin + size, dtype=np.float64)[:, None] + 0.5)
    triangle = np.maximum(0.0, 1.0 - np.abs(np.arange(length) + 0.5 - centre) / half)
    return np.asarray(triangle / triangle.sum(axis=1, keepdims=True), np.float64)


def preprocess_reference(frame: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float32]:
    """Return float32 [3, size, size], RGB in [-1, 1], of `frame`, uint8 [H, W, 3] BGR. Computed in float64.

    Raises ValueError for a frame of another shape or without pixels.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0 or size < 1:
        raise ValueError(f"expected a frame [H, W, 3] and a positive size, got {frame.shape} and {size}")
    height, width = frame.shape[:2]
    tall, wide = resized_shape(height, width, size)
    top, left = crop_origin(tall, wide, size)
    rgb = frame[..., ::-1].transpose(2, 0, 1).astype(np.float64)
    image = _weights(height, tall, top, size=size) @ rgb @ _weights(width, wide, left, size=size).T
    return (image / 127.5 - 1.0).astype(np.float32)
