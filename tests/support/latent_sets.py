"""Latents of noise whose strength tells their class, for tests of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from leakrt.core.spec import ModelSpec
    from leakrt.train.batches import LatentSet


def latent_set(spec: ModelSpec, count: int, seed: int, *, views: int = 2) -> LatentSet:
    """`count` latents of three classes in turn."""
    from leakrt.train.batches import LatentSet
    from leakrt.train.record_cache import RecordTable

    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    latents = rng.normal(0, 1 + labels[:, None, None, None, None], (count, views, *spec.latent_shape))
    return LatentSet(RecordTable.of(latents.astype(np.float32)), labels)
