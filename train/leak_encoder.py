"""The leak encoder in PyTorch: conv encoder per step, gates, attention over steps, prototypes with a soft-min.

It follows Proto-LeakNet (arXiv 2511.04260) with the differences listed in ARCHITECTURE.md. The attention pool is
trained and saved, and each step's input is normalised to unit variance, since alpha_t / sigma_t spans two decades.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..core.schedule import step_coefficients
from ..core.spec import VAE_CHANNELS, ModelSpec
from .config import TrainConfig

_VARIANCE_FLOOR = 1e-5
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 5.0


class ConvEncoder(nn.Module):
    """3 x 3 convolutions with batch norm and ReLU, then pooling over space: [N, C, H, W] to [N, D], any H and W.

    All convolutions but the first have stride 2. Mean and standard deviation of every channel are pooled: a generator's
    trace is a texture, and the variation of a filter's response is as informative as its mean.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], embedding_dim: int, *, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for position, (inputs, outputs) in enumerate(zip((channels, *widths), widths, strict=False)):
            stride = 1 if position == 0 else 2
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.stages = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Sequential(nn.Linear(2 * widths[-1], embedding_dim), nn.BatchNorm1d(embedding_dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return one embedding per step."""
        features = self.stages(x)
        mean = features.mean(dim=(2, 3), keepdim=True)
        deviation = ((features - mean) ** 2).mean(dim=(2, 3)).add(_VARIANCE_FLOOR).sqrt()
        pooled = torch.cat([mean.squeeze(-1).squeeze(-1), deviation], dim=1)
        return self.project(self.dropout(pooled))  # type: ignore[no-any-return]


class StepAttention(nn.Module):
    """Softmax weights over steps, from the steps' embeddings and a learned bias per step: [B, T, D] to [B, T]."""

    def __init__(self, embedding_dim: int, steps: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(embedding_dim, 64), nn.Tanh(), nn.Linear(64, 1))
        self.bias = nn.Parameter(torch.zeros(steps))

    def forward(self, h: Tensor, kept: Tensor | None) -> Tensor:
        """Return the weights. `kept` bool [B, T] selects the steps; None selects all."""
        logits = self.score(h).squeeze(-1) + self.bias
        if kept is not None:
            logits = logits.masked_fill(~kept, -torch.inf)
        return torch.softmax(logits, dim=1)


class PrototypeHead(nn.Module):
    """Class scores from gated distances to M prototypes per class, by a soft-min with a learned temperature.

    d_km = sum_i w_i (h_i - p_kmi)^2 / sqrt(D); score_k = tau (logsumexp_m(-d_km / tau) - log M).
    """

    def __init__(self, classes: int, prototypes: int, embedding_dim: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, prototypes, embedding_dim) * 0.3)
        self.log_temperature = nn.Parameter(torch.zeros(()))
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, embedding: Tensor, gates: Tensor) -> Tensor:
        """Map embedding [B, D] and gates [B, D] to scores [B, K]."""
        _, count, dim = self.prototypes.shape
        # sqrt(D) x mean equals sum / sqrt(D); ONNX would export a sum with its axes as an input
        distance = (gates[:, None, None] * (embedding[:, None, None] - self.prototypes) ** 2).mean(dim=-1)
        distance = distance * self.log_scale.exp() * math.sqrt(dim)
        temperature = self.log_temperature.exp().clamp(_MIN_TEMPERATURE, _MAX_TEMPERATURE)
        return temperature * (torch.logsumexp(-distance / temperature, dim=-1) - math.log(count))


class LinearHead(nn.Module):
    """Ablation: a linear classifier on the embedding, without gates."""

    def __init__(self, classes: int, embedding_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding_dim, classes)

    def forward(self, embedding: Tensor, gates: Tensor) -> Tensor:
        """Map embedding [B, D] to scores [B, K]; gates are unused."""
        del gates
        return self.linear(torch.relu(embedding))  # type: ignore[no-any-return]


class LeakEncoder(nn.Module):
    """noised float32 [B, T, C, S/8, S/8] to (scores [B, K], embedding [B, D], gates [B, D], step_weights [B, T]).

    It encodes one branch. `spec` is that of a detector with one branch; its latents have C = `channels` channels.
    """

    step_scale: Tensor

    def __init__(self, spec: ModelSpec, config: TrainConfig, *, channels: int = VAE_CHANNELS) -> None:
        super().__init__()
        classes, dim = len(spec.class_names), spec.embedding_dim
        self.register_buffer("step_scale", torch.ones(len(spec.timesteps)))
        self._coefficients = torch.from_numpy(step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize))
        self.encoder = ConvEncoder(channels, config.widths, dim, dropout=config.embedding_dropout)
        self.gate = nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, dim), nn.Sigmoid())
        self.attention = StepAttention(dim, len(spec.timesteps))
        self.head: nn.Module
        if config.head == "linear":
            self.head = LinearHead(classes, dim)
            self.gate.requires_grad_(False)  # unused; the optimiser must not expect state for it
        else:
            self.head = PrototypeHead(classes, spec.prototypes_per_class, dim)
        self._step_dropout, self._dim = config.step_dropout, dim
        self._steps, self._latent_shape = len(spec.timesteps), (channels, *spec.latent_shape[1:])

    @property
    def prototypes(self) -> Tensor:
        """The prototypes [K, M, D]. Raises AttributeError with a linear head."""
        return self.head.prototypes  # type: ignore[return-value]

    def set_latent_statistics(self, latent_std: float) -> None:
        """Normalise each step to unit variance, given the standard deviation of the training latents."""
        a, s = self._coefficients[:, 0], self._coefficients[:, 1]
        self.step_scale.copy_(torch.rsqrt((a * latent_std) ** 2 + s**2))

    def forward(self, noised: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the four outputs. In training mode, steps are dropped at random, but never all of an image."""
        steps = self._steps  # not from `noised`: a traced size would leave Shape nodes in the graph
        x = noised * self.step_scale.view(1, steps, 1, 1, 1)
        if self.training:
            kept = self._kept_steps(len(x), steps)
            # a dropped step has no weight in the pool, so its convolutions are skipped
            h = x.new_zeros(len(x), steps, self._dim)
            h[kept] = self.encoder(x[kept])
            step_weights = self.attention(h, kept)
        else:
            h = self.encoder(x.reshape(-1, *self._latent_shape)).reshape(-1, steps, self._dim)
            step_weights = self.attention(h, None)
        embedding = self._pool(step_weights, h)
        gates = self._pool(step_weights, self.gate(h))
        return self.head(embedding, gates), embedding, gates, step_weights

    @staticmethod
    def _pool(step_weights: Tensor, values: Tensor) -> Tensor:
        """Pool [B, T] and [B, T, D] to [B, D] by a matrix product, as ONNX exports a sum with its axes as an input."""
        return torch.bmm(step_weights.unsqueeze(1), values).squeeze(1)

    def _kept_steps(self, batch: int, steps: int) -> Tensor:
        """Draw the kept steps, bool [B, T], with at least one per image."""
        kept = torch.rand(batch, steps) >= self._step_dropout
        kept[torch.arange(batch), torch.randint(steps, (batch,))] = True
        return kept
