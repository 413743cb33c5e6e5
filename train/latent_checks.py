"""Checks of a VAE encoder: shape of Stable Diffusion's latents, finite, repeatable, dependent on the whole image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import ModelError

if TYPE_CHECKING:
    from .vae import Array, VaeEncoder

_CHANNELS, _FACTOR = 4, 8
_STABLE_DIFFUSION = "use an encoder of Stable Diffusion 1, 2 or XL"
_SAME = 1e-6  # of the largest latent; smaller changes count as none
_STRIP = 8  # pixels; the least that one row of latents covers


def probe_images(count: int, size: int, *, seed: int = 0) -> Array:
    """Return different images of soft colours and mild noise: float32 [count, 3, size, size] in [-1, 1]."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1, 1, (count, 3, size // 8 + 1, size // 8 + 1)).repeat(8, 2).repeat(8, 3)
    noise = rng.normal(0, 0.1, (count, 3, size, size))
    return np.clip(coarse[..., :size, :size] + noise, -1, 1).astype(np.float32)


def one_by_one(run: Callable[[Array], Array], images: Array) -> Array:
    """Run images float32 [B, 3, S, S] one at a time, so that no latent depends on its batch."""
    latents = [run(np.ascontiguousarray(image[None])) for image in images]
    side = images.shape[-1] // _FACTOR
    return np.concatenate(latents) if latents else np.empty((0, _CHANNELS, side, side), np.float32)


def check_shape(name: str, shape: tuple[int, ...], size: int) -> None:
    """Raise ModelError, with a remedy, for another shape than [1, 4, size/8, size/8]."""
    side = size // _FACTOR
    wanted = (1, _CHANNELS, side, side)
    if shape != wanted:
        shapes = f"a latent of shape {list(shape)} for S = {size}; [B, 4, S/8, S/8] = {list(wanted)} is needed"
        raise ModelError(f"{name} gives {shapes}: {_shape_hint(shape, size)}")


def check_finite(name: str, latent: Array) -> None:
    """Raise ModelError for a latent that contains NaN or infinity."""
    if not np.isfinite(latent).all():
        what = "NaN" if np.isnan(latent).any() else "infinity"
        share = 1 - np.isfinite(latent).mean()
        raise ModelError(
            f"{name} gives {what} in {share:.1%} of a probe image's latent; use its float32 weights or another encoder"
        )


def check_latents(name: str, vae: VaeEncoder) -> None:
    """Encode probe images. Raise ModelError for latents that are random, constant or ignore a part of the image."""
    size = vae.description.image_size
    first, second = images = probe_images(2, size)
    one, other = latents = vae.encode(images)
    check_finite(name, latents)
    if not np.array_equal(vae.encode(first[None])[0], one):
        raise ModelError(f"{name} gives two latents for one image; output the posterior mean, not a sample")
    least = _SAME * float(np.abs(latents).max())
    if not float(np.abs(other - one).max()) > least:
        raise ModelError(
            f"{name} gives the same latent for every image; export the encoder with its image as the input"
        )
    for part, changed in _parts(first, second):
        if not float(np.abs(vae.encode(changed[None])[0] - one).max()) > least:
            raise ModelError(f"{name} ignores {part} of the image; export an encoder that reads all of it")


def _parts(image: Array, other: Array) -> Iterator[tuple[str, Array]]:
    """Yield names of parts, and the image float32 [3, S, S] with that part taken from another image."""
    every, begin, end = slice(None), slice(None, _STRIP), slice(-_STRIP, None)
    places: dict[str, tuple[slice, ...]] = {
        "the top": (every, begin),
        "the bottom": (every, end),
        "the left edge": (every, every, begin),
        "the right edge": (every, every, end),
        "the red channel": (slice(0, 1),),
        "the green channel": (slice(1, 2),),
        "the blue channel": (slice(2, 3),),
    }
    for part, place in places.items():
        changed = image.copy()
        changed[place] = other[place]
        yield part, changed


def _shape_hint(shape: tuple[int, ...], size: int) -> str:
    side = size // _FACTOR
    if len(shape) != len((1, _CHANNELS, side, side)) or shape[0] != 1:
        return "it is not the latent of one image; choose the right output, or export only the encoder"
    if shape[1:] == (side, side, _CHANNELS):
        return "its channels come last; move them to the second axis"
    channels, height, width = shape[1:]
    factors = sorted({size // max(height, 1), size // max(width, 1)})
    if factors != [_FACTOR]:
        return f"it downsamples by {' and '.join(map(str, factors))} instead of 8; {_STABLE_DIFFUSION}"
    if channels == 2 * _CHANNELS:
        return "it outputs 8 channels, mean and log-variance of the posterior; export the first four, the mean"
    if channels in (16, 32):
        return f"it outputs {channels} channels, as encoders of SD3 and FLUX do; {_STABLE_DIFFUSION}"
    return f"it outputs {channels} channels instead of 4; {_STABLE_DIFFUSION}"
