"""The training loss: cross-entropy of the prototype scores minus an entropy bonus on the step weights."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor

from .config import TrainConfig

_SMALLEST = 1e-8


def step_entropy(step_weights: Tensor) -> Tensor:
    """Return the mean entropy of step weights [B, T] divided by its maximum log T, in [0, 1]; 0 for a single step."""
    steps = step_weights.shape[1]
    if steps == 1:
        return step_weights.new_zeros(())
    # a dropped step has weight 0, where the derivative of w log w is infinite
    entropy = -(step_weights * step_weights.clamp_min(_SMALLEST).log()).sum(dim=1)
    return entropy.mean() / torch.log(torch.tensor(float(steps)))


def training_loss(scores: Tensor, step_weights: Tensor, targets: Tensor, *, config: TrainConfig) -> Tensor:
    """Return the scalar loss of scores [B, K] and step weights [B, T] against class probabilities `targets` [B, K].

    The entropy bonus keeps the attention from relying on one step early in training.
    """
    smooth = config.label_smoothing
    softened = targets * (1.0 - smooth) + smooth / targets.shape[1]
    return functional.cross_entropy(scores, softened) - config.entropy_weight * step_entropy(step_weights)
