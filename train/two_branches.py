"""A leak encoder of two branches, whose scores are fused late: the VAE's latents and the pixel encoder's channels.

The branches are trained apart: in joint training, the easier one starves the other. The sum of two soft-mins over M
prototypes each is, at equal temperatures, the soft-min over the M x M pairs of prototypes of the joined embedding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from ..core.decision import probabilities
from ..core.spec import ModelSpec
from .config import TrainConfig
from .leak_encoder import LeakEncoder, PrototypeHead
from .pixel_encoder import PixelEncoder

_WEIGHT_RANGE = 4.0  # of log weights, in the fit


class TwoBranchEncoder(nn.Module):
    """noised float32 [B, T, 4 + R, S/8, S/8] to (scores [B, K], embedding [B, D], gates [B, D], step_weights [B, T]).

    scores = sum over branches of weight x scores. The embedding joins those of the branches, each scaled so that its
    squared distances count as they do in the scores. The step weights are the branches' mean, by weight.
    """

    weights: Tensor

    def __init__(self, spec: ModelSpec, config: TrainConfig) -> None:
        super().__init__()
        single = spec.one_branch()
        self.pixel_encoder = PixelEncoder(spec.branch_channels)
        self.latent_branch = LeakEncoder(single, config)
        self.pixel_branch = LeakEncoder(single, config.pixel_branch(), channels=spec.branch_channels)
        self.register_buffer("weights", torch.ones(len(self.branches)))
        self._channels = spec.branches

    @property
    def branches(self) -> tuple[LeakEncoder, LeakEncoder]:
        """The leak encoders, in the order of `ModelSpec.branches`."""
        return self.latent_branch, self.pixel_branch

    @property
    def prototypes(self) -> Tensor:
        """The joined prototypes [K, M, D], in the space of the embedding."""
        return torch.cat([s * b.prototypes for s, b in zip(self._scales(), self.branches, strict=True)], dim=-1)

    def forward(self, noised: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the four outputs. Call it in evaluation mode: the branches are trained apart."""
        outputs = [leak(noised[:, :, c]) for leak, c in zip(self.branches, self._channels, strict=True)]
        weights = self.weights.tolist()  # constants of the exported graph
        scores = sum(w * out[0] for w, out in zip(weights, outputs, strict=True))
        embedding = torch.cat([s * out[1] for s, out in zip(self._scales(), outputs, strict=True)], dim=1)
        gates = torch.cat([out[2] for out in outputs], dim=1)
        step_weights = sum(w / sum(weights) * out[3] for w, out in zip(weights, outputs, strict=True))
        return scores, embedding, gates, step_weights

    def _scales(self) -> list[float]:
        found = []
        for weight, leak in zip(self.weights.tolist(), self.branches, strict=True):
            assert isinstance(leak.head, PrototypeHead)
            found.append(math.sqrt(weight * float(leak.head.log_scale.detach().exp())))
        return found


Encoder = LeakEncoder | TwoBranchEncoder


def make_encoder(spec: ModelSpec, config: TrainConfig) -> Encoder:
    """Return an untrained encoder with the branches of the spec."""
    return TwoBranchEncoder(spec, config) if spec.branch_channels else LeakEncoder(spec, config)


def has_prototypes(encoder: Encoder) -> bool:
    """Whether every branch has prototypes; the linear ablation has none."""
    branches = encoder.branches if isinstance(encoder, TwoBranchEncoder) else [encoder]
    return all(isinstance(branch.head, PrototypeHead) for branch in branches)


def pixel_channels(encoder: Encoder, images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Encode images float32 [B, 3, S, S] by the pixel encoder to float32 [B, R, S/8, S/8].

    R is 0 without a pixel branch.
    """
    batch, _, side, _ = images.shape
    if not isinstance(encoder, TwoBranchEncoder):
        return np.empty((batch, 0, side // 8, side // 8), np.float32)
    with torch.inference_mode():
        encoder.pixel_encoder.eval()
        return np.asarray(encoder.pixel_encoder(torch.from_numpy(images)).contiguous().numpy(), np.float32)


def fit_weights(scores: Sequence[npt.NDArray[np.float32]], labels: npt.NDArray[np.int64]) -> list[float]:
    """Return the weight of each branch's scores [N, K] that minimises the negative log-likelihood of `labels`.

    It is fitted on validation images, where neither branch knows the answers.
    """
    rows = np.arange(len(labels))

    def negative_log_likelihood(log_weights: npt.NDArray[np.float64]) -> float:
        fused = sum(np.exp(w) * s.astype(np.float64) for w, s in zip(log_weights, scores, strict=True))
        likelihood = probabilities(np.asarray(fused), 1.0)[rows, labels]
        return float(-np.log(np.maximum(likelihood, 1e-300)).mean())

    bounds = [(-_WEIGHT_RANGE, _WEIGHT_RANGE)] * len(scores)
    found = minimize(negative_log_likelihood, np.zeros(len(scores)), bounds=bounds, method="L-BFGS-B")
    return [math.exp(float(w)) for w in found.x]
