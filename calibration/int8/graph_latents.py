"""Latents of images by one graph, kept in training's latent cache: a killed calibration goes on where it was."""

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
from ...train.latents import LatentCache, LatentRequest
from ...train.vae import PREPROCESS_VERSION, VaeDescription

_PLAIN = (0,)  # the one view that is wanted

Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class GraphVae:
    """A bundle's VAE encoder as the latent cache takes one; its scale is inside. Images side by side, a thread each."""

    def __init__(self, spec: ModelSpec, model: bytes, *, owner: str = "") -> None:
        """Latents of another `owner` lie in another cache. Raises ModelError."""
        text = f"{PREPROCESS_VERSION} {spec.image_size} {sha256_bytes(model)}{owner}"
        fingerprint = sha256_bytes(text.encode())
        self.description = VaeDescription(
            kind="onnx", source="vae_encoder", scale=1.0, image_size=spec.image_size, fingerprint=fingerprint
        )
        self._runner = GraphSession(vae_encoder_graph(spec), model, 1)

    def encode(self, images: Array) -> Array:
        """Images float32 [B, 3, S, S] to latents float32 [B, 4, S/8, S/8]. Raises ModelError."""
        return self._runner.run(images)[0]


class StoredLatents:
    """Latents of N images in a cache, mapped only while some are read: what stays mapped counts as resident memory."""

    def __init__(self, cache: LatentCache, digests: Sequence[str]) -> None:
        self._cache, self._digests = cache, digests

    def __len__(self) -> int:
        return len(self._digests)

    def read(self, rows: Rows) -> Array:
        """Copies float32 [B, 4, S/8, S/8] of B latents. Raises StorageError when the cache is gone."""
        return self._cache.read([self._digests[row] for row in rows], _PLAIN)[:, 0]


class GraphLatents:
    """Latents of the same N images by one VAE encoder after another."""

    def __init__(self, root: Path, paths: Sequence[Path]) -> None:
        """`root` holds a cache for each graph. Raises ImageError for a file that can't be read."""
        self._root = root
        self._wanted = [LatentRequest(path, hash_image(path), _PLAIN) for path in paths]
        self._passing: list[LatentCache] = []

    def of(
        self, spec: ModelSpec, model: bytes, threads: int, *, task: str, progress: Progress, passing: str = ""
    ) -> StoredLatents:
        """One latent an image, in their order, from the cache where they lie there.

        Those of a graph that no later calibration makes again go with `done`: `passing` names whose they are, since
        another process may calibrate another copy of the bundle, and still read the same. Raises what
        `LatentCache.fill` does.
        """
        vae = GraphVae(spec, model, owner=passing)
        cache = LatentCache(self._root, vae.description.fingerprint, spec.latent_shape)
        cache.fill(vae, self._wanted, threads, progress=progress, task=task)
        if passing:
            self._passing.append(cache)
        return StoredLatents(cache, [image.digest for image in self._wanted])

    def done(self) -> None:
        """Give back the room of passing graphs' latents. Not called when a calibration ends before its time."""
        for cache in self._passing:
            cache.remove()
        self._passing.clear()
