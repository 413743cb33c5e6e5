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
from .data import hash_image
from .record_cache import Computed, ImageRequest, RecordCache
from .vae import VaeEncoder

VIEW_COUNTS = {"plain": 1, "flip": 2, "dihedral": 8}

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


def apply_view(image: Array, view: int) -> Array:
    """Return one of the eight views of a preprocessed image [3, S, S].

    Bit 0 mirrors it, bits 1 and 2 count rotations by 90 degrees. No view moves the 8-pixel grid of JPEG or of the VAE.
    """
    turned = np.rot90(image, view >> 1, axes=(1, 2))
    return np.ascontiguousarray(turned[:, :, ::-1] if view & 1 else turned)


def preprocessed(image: ImageRequest, size: int) -> Array:
    """Read an image and return it as float32 [3, size, size]. Raises ImageError, DataError if it changed."""
    square = np.empty((3, size, size), np.float32)
    _core.preprocess(read_image(image.path).pixels, square, threads=1)
    if hash_image(image.path) != image.digest:  # hash after reading, so that the result matches the digest
        raise DataError(f"{image.path} changed while in use; run the command again")
    return square


def _encode(vae: VaeEncoder, image: ImageRequest) -> list[Computed]:
    square = preprocessed(image, vae.description.image_size)
    latents = vae.encode(np.stack([apply_view(square, view) for view in image.views]))
    if not np.isfinite(latents).all():
        name = f"{vae.description.kind}:{vae.description.source}"
        raise ModelError(f"{name} gives latents that are not finite for {image.path}; use another VAE or its float32")
    return [((image.digest, view), latent) for view, latent in zip(image.views, latents, strict=True)]
