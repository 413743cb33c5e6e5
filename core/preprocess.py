"""The preprocessing of LeakRT, as a NumPy reference: short side to S, centre crop, RGB in [-1, 1].

An antialiased bilinear resize is a weighted sum along each axis: output i sees the input pixels under a triangle
around c = (i + 1/2) n / m, whose half width is max(1, n / m) pixels, cut at the border and normalised. That is what
torchvision's v2 functional resize with antialias does to float32 images; tests hold golden tensors of it.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt


def resized_shape(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) in pixels once the short side is `size`; the long side is rounded down."""
    short = min(height, width)
    return (
        size if height == short else size * height // short,
        size if width == short else size * width // short,
    )


def crop_origin(height: int, width: int, size: int) -> tuple[int, int]:
    """(top, left) of the centre crop size x size out of height x width pixels; halves go to the even number."""
    return round((height - size) / 2), round((width - size) / 2)


@lru_cache(256)  # a camera asks for each of its frames
def seen(height: int, width: int, size: int) -> tuple[slice, slice]:
    """Rows and columns of a frame of height x width pixels that any output depends on: the others may be left out.

    In integers, so that it is exactly what the kernels read.
    """
    tall, wide = resized_shape(height, width, size)
    top, left = crop_origin(tall, wide, size)
    return _seen(height, tall, top, size=size), _seen(width, wide, left, size=size)


def _seen(length: int, resized: int, origin: int, *, size: int) -> slice:
    """From the first pixel under the triangle of output `origin` to the last under that of the `size`-th from there.

    Output i has the centre c = (i + 1/2) n / m and the half width h = max(1, n / m); pixel k, a square from k to k + 1,
    counts with the value of its middle, so that k >= c - h - 1/2 and k < c + h + 1/2, rounded outwards to integers.
    """
    unit, half = 2 * resized, 2 * max(length, resized)
    first, last = length * (2 * origin + 1), length * (2 * (origin + size) - 1)
    return slice(max(0, (first - half + resized) // unit), min(length, (last + half + resized) // unit))


def _weights(length: int, resized: int, origin: int, *, size: int) -> npt.NDArray[np.float64]:
    """float64 [size, length]: what outputs origin ... origin + size - 1 of `resized` take from `length` pixels."""
    scale = length / resized
    half = max(1.0, scale)
    centre = scale * (np.arange(origin, origin + size, dtype=np.float64)[:, None] + 0.5)
    triangle = np.maximum(0.0, 1.0 - np.abs(np.arange(length) + 0.5 - centre) / half)
    return np.asarray(triangle / triangle.sum(axis=1, keepdims=True), np.float64)


def preprocess_reference(frame: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float32]:
    """float32 [3, size, size], RGB in [-1, 1], from `frame` uint8 [H, W, 3] BGR; float64 until the end.

    Raises ValueError for a frame of another shape or without pixels.
    """
    if frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0 or size < 1:
        raise ValueError(f"a frame [H, W, 3] and a positive size are needed, not {frame.shape} and {size}")
    height, width = frame.shape[:2]
    tall, wide = resized_shape(height, width, size)
    top, left = crop_origin(tall, wide, size)
    rgb = frame[..., ::-1].transpose(2, 0, 1).astype(np.float64)
    image = _weights(height, tall, top, size=size) @ rgb @ _weights(width, wide, left, size=size).T
    return (image / 127.5 - 1.0).astype(np.float32)
