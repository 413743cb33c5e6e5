"""Latents of images from a bundle's VAE encoder, stored in the latent cache so that calibration can resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...core.files import sha256_bytes
from ...core.graphs import vae_encoder_graph
from ...core.progress import Progress
from ...core.spec import ModelSpec
from ...export.sessions import GraphSession
from ...train.data import hash_image
from ...train.latents import LatentCache
from ...train.record_cache import ImageRequest
from ...train.vae import PREPROCESS_VERSION, VaeDescription

_PLAIN = (0,)  # only the unaugmented view

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class GraphVae:
    """Adapter of a bundle's VAE encoder for the latent cache, which calls it from several threads.

    The graph includes the latent scale, and a call uses one thread.
    """

    def __init__(self, spec: ModelSpec, model: bytes, *, owner: str = "") -> None:
        """Each `owner` has a separate cache. Raises ModelError."""
        text = f"{PREPROCESS_VERSION} {spec.image_size} {sha256_bytes(model)}{owner}"
        fingerprint = sha256_bytes(text.encode())
        self.description = VaeDescription(
            kind="onnx", source="vae_encoder", scale=1.0, image_size=spec.image_size, fingerprint=fingerprint
        )
        self._runner = GraphSession(vae_encoder_graph(spec), model, 1)

    def encode(self, images: Array) -> Array:
        """Encode images float32 [B, 3, S, S] to latents float32 [B, C, S/8, S/8]. Raises ModelError."""
        return self._runner.run(images)[0]


class StoredLatents:
    """Latents of N images in a cache.

    Files are mapped only during a read, since mapped pages count as resident memory.
    """

    def __init__(self, cache: LatentCache, digests: Sequence[str]) -> None:
        self._cache, self._digests = cache, digests

    def __len__(self) -> int:
        return len(self._digests)

    def read(self, rows: Rows) -> Array:
        """Return copies of B latents, float32 [B, C, S/8, S/8]. Raises StorageError if the cache was deleted."""
        return self._cache.read([self._digests[row] for row in rows], _PLAIN)[:, 0]


class GraphLatents:
    """Latents of the same N images from several VAE encoders."""

    def __init__(self, root: Path, paths: Sequence[Path]) -> None:
        """`root` contains a cache for each graph. Raises ImageError for a file that can't be read."""
        self._root = root
        self._wanted = [ImageRequest(path, hash_image(path), _PLAIN) for path in paths]
        self._passing: list[LatentCache] = []

    def of(
        self, spec: ModelSpec, model: bytes, threads: int, *, task: str, progress: Progress, passing: str = ""
    ) -> StoredLatents:
        """Return the latents of all images in order, computing those that are not in the cache.

        `passing`: the owner of a temporary graph, whose latents `done` deletes. Owners have separate caches, because
        another process may calibrate a copy of the bundle at the same time. Raises what `LatentCache.fill` raises.
        """
        vae = GraphVae(spec, model, owner=passing)
        cache = LatentCache(self._root, vae.description.fingerprint, spec.latent_shape)
        cache.fill(vae, self._wanted, threads, progress=progress, task=task)
        if passing:
            self._passing.append(cache)
        return StoredLatents(cache, [image.digest for image in self._wanted])

    def done(self) -> None:
        """Delete the latents of temporary graphs. After an interruption they stay, so that calibration can resume."""
        for cache in self._passing:
            cache.remove()
        self._passing.clear()
