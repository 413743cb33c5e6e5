"""The training loss: cross-entropy over the prototype scores, less the entropy of the step weights."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from .config import TrainConfig

_SMALLEST = 1e-8


def step_entropy(step_weights: Tensor) -> Tensor:
    """Mean entropy of step weights [B, T] over their maximum log T, in [0, 1]; 0 for a single step."""
    steps = step_weights.shape[1]
    if steps == 1:
        return step_weights.new_zeros(())
    # a dropped step weighs 0, where the derivative of w log w is infinite
    entropy = -(step_weights * step_weights.clamp_min(_SMALLEST).log()).sum(dim=1)
    return entropy.mean() / torch.log(torch.tensor(float(steps)))


def training_loss(scores: Tensor, step_weights: Tensor, targets: Tensor, *, config: TrainConfig) -> Tensor:
    """Scalar loss of scores [B, K] and step weights [B, T] against class probabilities `targets` [B, K].

    Soft targets, so that mixed images need no second path. High step entropy is rewarded, which keeps the
    attention from leaning on one step early on.
    """
    smooth = config.label_smoothing
    softened = targets * (1.0 - smooth) + smooth / targets.shape[1]
    return functional.cross_entropy(scores, softened) - config.entropy_weight * step_entropy(step_weights)
