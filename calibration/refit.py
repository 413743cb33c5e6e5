"""Refit: the leak encoder is taught to say on int8 latents what it said on fp32 ones.

Rounding in the VAE moves every latent a little, and at t = 0 alpha / sigma is 34: a leak encoder that never saw such
latents reads the rounding as a trace. So the fp32 leak encoder goes on as the teacher of its own copy: for the same
image, view and noise the student sees the int8 latent and learns the teacher's class distribution and embedding
(distillation: Hinton et al., 2015), and the label. Agreement of verdicts is what counts here, and a teacher gives more
of it than labels alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor

from .. import _core
from ..core.progress import Progress
from ..core.schedule import step_coefficients
from ..core.spec import ModelSpec
from ..train.config import TrainConfig
from ..train.leak_encoder import LeakEncoder

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOISE_SALT = 0x5EED1A7E  # keeps the refit's noise apart from training's and from inference's
_MASK = 2**64 - 1

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RefitConfig:
    """The refit's recipe. The rest is the training run's own."""

    epochs: int = 6
    learning_rate: float = 5e-4  # peak of the one-cycle schedule
    warmup_share: float = 0.15
    label_weight: float = 0.6  # of the labels' cross-entropy beside the teacher's


@dataclass(frozen=True)
class LatentPairs:
    """The same N training images in V views, before and behind the quantised VAE encoder."""

    fp32: Array  # [N, V, 4, S/8, S/8]
    int8: Array  # [N, V, 4, S/8, S/8]
    labels: Labels  # [N]


def refit(
    teacher: LeakEncoder,
    pairs: LatentPairs,
    spec: ModelSpec,
    config: TrainConfig,
    recipe: RefitConfig,
    progress: Progress,
) -> LeakEncoder:
    """The student, in evaluation mode. Seeded: the same pairs give the same weights on one machine."""
    torch.manual_seed(config.seed)
    teacher.eval().requires_grad_(False)
    student = copy.deepcopy(teacher).train().requires_grad_(True)
    batch = min(config.batch_size, len(pairs.labels))
    steps = recipe.epochs * (len(pairs.labels) // batch)
    optimiser = torch.optim.AdamW(student.parameters(), recipe.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(steps, 2), pct_start=recipe.warmup_share
    )
    for done, (clean, rounded, labels) in enumerate(_batches(pairs, spec, config, recipe.epochs, batch), 1):
        loss = _loss(teacher, student, clean, rounded, labels, recipe.label_weight)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(student.parameters(), config.gradient_clip)
        optimiser.step()
        schedule.step()
        progress("refit", done, steps)
    return student.eval().requires_grad_(False)


def without_dropout(config: TrainConfig) -> TrainConfig:
    """The recipe with no step and no feature left out: a student that copies a teacher needs no regulariser."""
    return replace(config, step_dropout=0.0, embedding_dropout=0.0)


def _loss(
    teacher: LeakEncoder, student: LeakEncoder, clean: Tensor, rounded: Tensor, labels: Tensor, label_weight: float
) -> Tensor:
    with torch.no_grad():
        wanted, embedding, _, _ = teacher(clean)
    scores, found, _, _ = student(rounded)
    distilled = functional.kl_div(scores.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)
    near = functional.mse_loss(found, embedding) / embedding.var().clamp_min(1e-12)
    labelled = functional.cross_entropy(scores, labels)
    return (1.0 - label_weight) * (distilled + near) + label_weight * labelled  # type: ignore[no-any-return]


def _batches(
    pairs: LatentPairs, spec: ModelSpec, config: TrainConfig, epochs: int, size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Noised fp32 latents, noised int8 latents under the same noise, and labels."""
    coefficients = step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize)
    count, views = pairs.fp32.shape[:2]
    for epoch in range(epochs):
        draw = np.random.default_rng([config.seed, epoch, _NOISE_SALT])
        order = draw.permutation(count)
        view = np.asarray(draw.integers(views, size=count), np.int64)
        noise_seed = (((config.seed + 1) * 0x9E3779B97F4A7C15) ^ (_NOISE_SALT + epoch)) & _MASK
        for start in range(0, count - size + 1, size):
            rows = order[start : start + size]
            samples = rows.astype(np.uint32)
            noised = [
                _core.noise_steps_fresh(
                    np.ascontiguousarray(latents[rows, view[rows]]), coefficients, noise_seed, samples
                )
                for latents in (pairs.fp32, pairs.int8)
            ]
            yield torch.from_numpy(noised[0]), torch.from_numpy(noised[1]), torch.from_numpy(pairs.labels[rows])
