"""The pixel cache: preprocessed images as 8-bit BGR records, which augmentation reads.

There is one folder per image size, preprocess version and version of the image reader. Records are uint8 [S, S, 3];
train/record_cache.py describes the files. Images that preprocess resamples are rounded to whole grey levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.images import READER_VERSION
from ..core.progress import Progress, silent
from .latents import preprocessed, to_pixels
from .record_cache import Computed, ImageRequest, RecordCache
from .vae import PREPROCESS_VERSION


class PixelCache(RecordCache):
    """Preprocessed images on disk."""

    def __init__(self, root: Path, image_size: int) -> None:
        """Open or create the cache of an image size. Raises StorageError."""
        folder = root / f"pixels-{image_size}-preprocess{PREPROCESS_VERSION}-reader{READER_VERSION}"
        super().__init__(folder, "pixels", dtype="u1", shape=(image_size, image_size, 3))
        self._size = image_size

    def fill(self, wanted: Sequence[ImageRequest], threads: int, *, progress: Progress = silent) -> None:
        """Read missing images on `threads` threads, as `LatentCache.fill` does, and with its exceptions."""
        self.compute(self._read, wanted, threads, progress=progress, task="reading pixels")

    def _read(self, image: ImageRequest) -> list[Computed]:
        pixels = to_pixels(preprocessed(image, self._size))
        return [((image.digest, view), pixels) for view in image.views]
