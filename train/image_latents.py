"""Latents of image files for a trained encoder: the VAE's from the cache, and the pixel encoder's from the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..core.outputs import Array
from ..core.progress import Progress, silent
from ..core.spec import ModelSpec
from .latents import preprocessed
from .record_cache import ImageRequest
from .two_branches import Encoder, pixel_channels
from .vae import VaeEncoder

_BATCH = 32


def encode_images(vae: VaeEncoder, encoder: Encoder, images: Array) -> Array:
    """Return the latents float32 [B, 4 + R, S/8, S/8] of images float32 [B, 3, S, S]. Raises ModelError."""
    return np.concatenate([vae.encode(images), pixel_channels(encoder, images)], axis=1)


def with_pixel_channels(
    latents: Array,
    encoder: Encoder,
    images: Sequence[ImageRequest],
    *,
    spec: ModelSpec,
    threads: int,
    progress: Progress = silent,
) -> Array:
    """Append the pixel encoder's channels to the VAE's latents of N image files, float32 [N, 4, S/8, S/8].

    Without a pixel branch no file is read. Raises ImageError, DataError for an image that changed since it was hashed.
    """
    if not spec.branch_channels:
        return latents
    joined = np.empty((len(images), *spec.latent_shape), np.float32)
    joined[:, spec.branches[0]] = latents
    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(images), _BATCH):
            batch = list(pool.map(lambda image: preprocessed(image, spec.image_size), images[start : start + _BATCH]))
            joined[start : start + len(batch), spec.branches[1]] = pixel_channels(encoder, np.stack(batch))
            progress("reading pixels", start + len(batch), len(images))
    return joined
