"""Batches of an epoch. Order, views, mixing and noise are pure functions of seed, epoch and image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .. import _core
from ..core.outputs import Array
from ..core.schedule import step_coefficients
from ..core.spec import ModelSpec
from .config import TrainConfig
from .record_cache import RecordTable

_MASK = 2**64 - 1


@dataclass(frozen=True)
class LatentSet:
    """Latents of N images in V views, with labels."""

    latents: RecordTable  # scaled
    labels: npt.NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class Batch:
    """One step's input."""

    noised: Array  # [B, T, C, S/8, S/8]
    targets: Array  # [B, K] class probabilities


class Batches:
    """The training batches of each epoch. An incomplete last batch is dropped."""

    def __init__(self, data: LatentSet, spec: ModelSpec, config: TrainConfig) -> None:
        self._data, self._spec, self._config = data, spec, config
        self._size = min(config.batch_size, len(data.labels))
        self._coefficients = step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize)

    def __len__(self) -> int:
        return len(self._data.labels) // self._size

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of one epoch, counted from 0."""
        seed = self._config.seed
        draw = np.random.default_rng([seed, epoch])
        count = len(self._data.labels)
        plain = self._data.latents.views - self._config.copies
        order, chosen = draw.permutation(count), draw.integers(plain, size=count)
        if self._config.augment:
            copies = plain + draw.integers(self._config.copies, size=count)
            chosen = np.where(draw.random(count) < self._config.augment, copies, chosen)
        one_hot = np.eye(len(self._spec.class_names), dtype=np.float32)
        # must differ from the seed of inference, whose noise must not be learned
        noise_seed = ((seed + 1) * 0x9E3779B97F4A7C15 + epoch + 1) & _MASK
        for start in range(0, len(self) * self._size, self._size):
            rows = order[start : start + self._size]
            latents = self._data.latents.take(rows, chosen[rows])
            targets = one_hot[self._data.labels[rows]]
            if self._config.mixup:
                latents, targets = _mix(latents, targets, draw, alpha=self._config.mixup)
            yield Batch(self._noised(latents, noise_seed, rows), targets)

    def _noised(self, latents: Array, seed: int, rows: npt.NDArray[np.int64]) -> Array:
        out = np.empty((len(latents), len(self._spec.timesteps), *self._spec.latent_shape), np.float32)
        samples = rows.astype(np.uint32)
        threads = self._config.threads
        return _core.noise_steps_fresh(
            np.ascontiguousarray(latents), self._coefficients, seed, samples, 1, out=out, threads=threads
        )


def _mix(latents: Array, targets: Array, draw: np.random.Generator, *, alpha: float) -> tuple[Array, Array]:
    """Apply mixup (Zhang et al., ICLR 2018) with one share per batch."""
    share = np.float32(draw.beta(alpha, alpha))
    partner = draw.permutation(len(latents))
    return share * latents + (1 - share) * latents[partner], share * targets + (1 - share) * targets[partner]
