"""The refit: knowledge distillation of the fp32 leak encoder on int8 latents (Hinton et al., 2015).

Quantising the VAE changes every latent slightly. At t = 0, alpha / sigma is 34, so a leak encoder that was trained on
fp32 latents mistakes the rounding error for a generator's trace. The student is a copy of the fp32 leak encoder, which
is the teacher. For the same image and noise, the student gets the int8 latent and learns the teacher's class
distribution and embedding. It keeps the teacher's batch statistics and uses no dropout. docs/precision.md has
measurements.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor

from ... import _core
from ...core.progress import Progress
from ...core.schedule import step_coefficients
from ...core.spec import ModelSpec
from ...train.config import TrainConfig
from ...train.two_branches import Encoder

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOISE_SALT = 0x5EED1A7E  # separates the noise of the refit from that of training and of inference
_MASK = 2**64 - 1
_PART = 8  # images per backward pass; gradients are accumulated over the batch


Array = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RefitConfig:
    """Options of the refit. Batch size, weight decay, gradient clip and seed are those of the training run."""

    epochs: int = 1
    learning_rate: float = 5e-4  # peak of the one-cycle schedule
    warmup_share: float = 0.15
    images: int = 3000  # maximum of training images, as for the density


class Latents(Protocol):
    """Latents of N images, in memory or on disk."""

    def __len__(self) -> int: ...

    def read(self, rows: Rows) -> Array:
        """Return the latents of rows int64 [B], float32 [B, C, S/8, S/8]. Raises StorageError."""


@dataclass(frozen=True)
class LatentPairs:
    """Latents of the same N training images from the fp32 and from the int8 VAE encoder."""

    fp32: Latents
    int8: Latents


def refit(
    teacher: Encoder,
    pairs: LatentPairs,
    spec: ModelSpec,
    *,
    config: TrainConfig,
    recipe: RefitConfig,
    progress: Progress,
) -> Encoder:
    """Train and return the student in evaluation mode. The same pairs give the same weights on one machine."""
    teacher.eval().requires_grad_(False)
    student = copy.deepcopy(teacher).requires_grad_(True)
    batch = min(config.batch_size, len(pairs.fp32))
    steps = recipe.epochs * (len(pairs.fp32) // batch)
    optimiser = torch.optim.AdamW(student.parameters(), recipe.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(steps, 2), pct_start=recipe.warmup_share
    )
    for done, parts in enumerate(_batches(pairs, spec, config, epochs=recipe.epochs, size=batch), 1):
        optimiser.zero_grad()
        for clean, rounded in parts:
            loss = _loss(teacher, student, clean, rounded=rounded) * (len(clean) / batch)
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), config.gradient_clip)
        optimiser.step()
        schedule.step()
        progress("refit", done, steps)
    return student.requires_grad_(False)


def _loss(teacher: Encoder, student: Encoder, clean: Tensor, *, rounded: Tensor) -> Tensor:
    """Return the KL divergence of the classes plus the squared embedding error over the teacher's variance."""
    with torch.no_grad():
        wanted, embedding, _, _ = teacher(clean)
    scores, found, _, _ = student(rounded)
    distilled = functional.kl_div(scores.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)
    near = functional.mse_loss(found, embedding) / embedding.var().clamp_min(1e-12)
    return distilled + near  # type: ignore[no-any-return]


def _batches(
    pairs: LatentPairs, spec: ModelSpec, config: TrainConfig, *, epochs: int, size: int
) -> Iterator[Iterator[tuple[Tensor, Tensor]]]:
    """Yield batches, each as parts of noised fp32 latents and int8 latents with the same noise."""
    coefficients = step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize)
    count = len(pairs.fp32)
    for epoch in range(epochs):
        order = np.random.default_rng([config.seed, epoch, _NOISE_SALT]).permutation(count)
        seed = (((config.seed + 1) * 0x9E3779B97F4A7C15) ^ (_NOISE_SALT + epoch)) & _MASK

        for start in range(0, count - size + 1, size):
            parts = np.split(order[start : start + size], range(_PART, size, _PART))
            yield (
                (_noised(pairs.fp32, rows, coefficients, seed=seed), _noised(pairs.int8, rows, coefficients, seed=seed))
                for rows in parts
            )


def _noised(latents: Latents, rows: Rows, coefficients: Array, *, seed: int) -> Tensor:
    return torch.from_numpy(_core.noise_steps_fresh(latents.read(rows), coefficients, seed, rows.astype(np.uint32)))
