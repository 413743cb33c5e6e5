"""The latent cache. Each view of an image is encoded once and shared by all runs with the same VAE.

There is one folder per VAE and version of the image reader. It is named by the VAE's fingerprint, which covers scale,
image size and preprocess version. Records are float32 [4, S/8, S/8]; train/record_cache.py describes the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .. import _core
from ..core.errors import DataError, ModelError
from ..core.images import READER_VERSION, read_image
from ..core.progress import Progress, silent
from .augment import augment
from .data import hash_image
from .image_ops import Image, to_uint8
from .record_cache import Computed, ImageRequest, RecordCache
from .vae import VaeEncoder

VIEW_COUNTS = {"plain": 1, "flip": 2, "dihedral": 8}
_COPY_SHIFT = 3  # eight views, then the number of the augmented copy

Array = npt.NDArray[np.float32]


class LatentCache(RecordCache):
    """Latents of one VAE on disk."""

    def __init__(self, root: Path, fingerprint: str, latent_shape: tuple[int, int, int]) -> None:
        """Open or create the cache of a VAE. Raises StorageError."""
        folder = root / f"{fingerprint[:24]}-reader{READER_VERSION}"
        super().__init__(folder, "latents", dtype="<f4", shape=latent_shape)

    def fill(
        self,
        vae: VaeEncoder,
        wanted: Sequence[ImageRequest],
        threads: int,
        *,
        progress: Progress = silent,
        task: str = "encoding images",
    ) -> None:
        """Encode missing views on `threads` threads. A failure loses at most the last two seconds of work.

        Waits while another process writes the same cache. Raises ImageError, DataError for an image that changed since
        it was hashed, ModelError, StorageError.
        """
        self.compute(lambda image: _encode(vae, image), wanted, threads, progress=progress, task=task)


def apply_view(image: Array, view: int, *, digest: str = "") -> Array:
    """Return a view of a preprocessed image [3, S, S].

    Bit 0 mirrors it, bits 1 and 2 count rotations by 90 degrees. No such view moves the 8-pixel grid of JPEG or of the
    VAE. The other bits number an augmented copy, which depends only on that number and on the hash of the file; 0 is
    the image itself.
    """
    copy = view >> _COPY_SHIFT
    if copy:
        draw = np.random.default_rng([copy, *bytes.fromhex(digest)])
        image = to_image(augment(to_pixels(image), draw))
    view &= (1 << _COPY_SHIFT) - 1
    turned = np.rot90(image, view >> 1, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if view & 1 else turned)


def copy_views(copies: int) -> tuple[int, ...]:
    """Return the views of augmented copies 1 to `copies`; every second one is mirrored."""
    return tuple(copy << _COPY_SHIFT | copy & 1 for copy in range(1, copies + 1))


def to_pixels(image: Array) -> Image:
    """Return a preprocessed image, float32 RGB [3, S, S] in [-1, 1], as uint8 BGR [S, S, 3], rounded."""
    return to_uint8((image[::-1].transpose(1, 2, 0) + 1) * np.float32(127.5))


def to_image(pixels: Image) -> Array:
    """Return uint8 BGR [S, S, 3] as float32 RGB [3, S, S] in [-1, 1], as `_core.preprocess` scales it."""
    scaled = pixels[..., ::-1].astype(np.float32) / np.float32(127.5) - np.float32(1)
    return np.ascontiguousarray(scaled.transpose(2, 0, 1))


def preprocessed(image: ImageRequest, size: int) -> Array:
    """Read an image and return it as float32 [3, size, size]. Raises ImageError, DataError if it changed."""
    square = np.empty((3, size, size), np.float32)
    _core.preprocess(read_image(image.path).pixels, square, threads=1)
    if hash_image(image.path) != image.digest:  # hash after reading, so that the result matches the digest
        raise DataError(f"{image.path} changed while in use; run the command again")
    return square


def _encode(vae: VaeEncoder, image: ImageRequest) -> list[Computed]:
    square = preprocessed(image, vae.description.image_size)
    latents = vae.encode(np.stack([apply_view(square, view, digest=image.digest) for view in image.views]))
    if not np.isfinite(latents).all():
        name = f"{vae.description.kind}:{vae.description.source}"
        raise ModelError(f"{name} gives latents that are not finite for {image.path}; use another VAE or its float32")
    return [((image.digest, view), latent) for view, latent in zip(image.views, latents, strict=True)]
