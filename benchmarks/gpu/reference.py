"""The reference method in eager PyTorch: what the chain is compared with.

After "Proto-LeakNet" (arXiv 2511.04260), written anew, as its public code runs it: antialiased resize and crop, the
encoder of Stable Diffusion's VAE, then for every step fresh noise, the convolutional encoder and its gates; attention
over the steps; distances to prototypes. Names of the VAE's weights are those of diffusers' AutoencoderKL, so that a
test can hold it against that. Random weights: the time does not depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from leakrt.core.schedule import step_coefficients
from leakrt.core.spec import ModelSpec

# stabilityai/sd-vae-ft-mse, config.json
SD_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
}
_GROUPS, _EPSILON, _LAYERS = 32, 1e-6, 2


class ResnetBlock(nn.Module):
    """Two 3 x 3 convolutions after group norm and SiLU, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _norm(inputs), _norm(outputs)
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.conv_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H, W]."""
        y = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        shortcut = self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x
        return shortcut + y


class Downsample(nn.Module):
    """A 3 x 3 convolution of stride 2, padded to the right and below alone."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C, H/2, W/2]."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Level(nn.Module):
    """Resnet blocks at one resolution, then half of it, but for the last level."""

    def __init__(self, inputs: int, outputs: int, last: bool) -> None:
        super().__init__()
        widths = (inputs, *(outputs,) * _LAYERS)
        self.resnets = nn.Sequential(*(ResnetBlock(a, b) for a, b in pairwise(widths)))
        if not last:
            self.downsamplers = nn.Sequential(Downsample(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H/2, W/2], or with H and W for the last level."""
        x = self.resnets(x)
        return self.downsamplers(x) if hasattr(self, "downsamplers") else x


class Attention(nn.Module):
    """Self-attention over all pixels, with one head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.group_norm = _norm(channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], as it was given."""
        flat = self.group_norm(x).flatten(2).transpose(1, 2)
        heads = (layer(flat)[:, None] for layer in (self.to_q, self.to_k, self.to_v))
        found = self.to_out(F.scaled_dot_product_attention(*heads)[:, 0])
        return x + found.transpose(1, 2).reshape(x.shape)


class MidBlock(nn.Module):
    """Resnet block, attention, resnet block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(channels)])

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W], as it was given."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Encoder(nn.Module):
    """Image to the moments of its latent."""

    def __init__(self, widths: tuple[int, ...], latent: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        pairs = list(zip((widths[0], *widths), widths, strict=False))
        self.down_blocks = nn.Sequential(*(Level(a, b, i == len(pairs) - 1) for i, (a, b) in enumerate(pairs)))
        self.mid_block = MidBlock(widths[-1])
        self.conv_norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * latent, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] to [B, 8, S/8, S/8]."""
        x = self.mid_block(self.down_blocks(self.conv_in(image)))
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class SdVaeEncoder(nn.Module):
    """The encoder half of an AutoencoderKL, up to the scaled posterior mean."""

    def __init__(self, widths: tuple[int, ...] = SD_VAE["block_out_channels"], scale: float = 0.18215) -> None:
        super().__init__()
        self.encoder, self.quant_conv, self.scale = Encoder(widths, 4), nn.Conv2d(8, 8, 1), scale

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, S, S] in [-1, 1] to [B, 4, S/8, S/8]."""
        return self.quant_conv(self.encoder(image))[:, :4] * self.scale


class StepEncoder(nn.Module):
    """The published conv encoder: 3 convolutions of 64, 128 and 192 channels, pooled, with gates."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(((4, 64), (64, 128), (128, 192))):
            layers += [nn.Conv2d(a, b, 3, 1 if i == 0 else 2, 1), nn.BatchNorm2d(b), nn.ReLU()]
        self.stages = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(192, dim))
        self.gate = nn.Sequential(nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, dim), nn.Sigmoid())

    def forward(self, noised: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 4, S/8, S/8] to the embedding and its gates, [B, D] each."""
        h = self.stages(noised)
        return h, self.gate(h)


class ReferenceMethod(nn.Module):
    """From frames to class scores."""

    def __init__(self, spec: ModelSpec, widths: tuple[int, ...] = SD_VAE["block_out_channels"]) -> None:
        super().__init__()
        self._size, dim = spec.image_size, spec.embedding_dim
        self.vae, self.encoder = SdVaeEncoder(widths, spec.vae_scale), StepEncoder(dim)
        self.attention = nn.Linear(dim, 1)
        self.prototypes = nn.Parameter(torch.randn(len(spec.class_names), spec.prototypes_per_class, dim) * 0.3)
        self.log_tau = nn.Parameter(torch.zeros(()))
        self._steps = step_coefficients(spec.schedule, spec.timesteps, sigma_normalize=False).tolist()

    def forward(self, frames: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] BGR, on the networks' device, to scores [B, K]."""
        return self.judge(self.vae(self.preprocess(frames)))

    def preprocess(self, frames: Tensor) -> Tensor:
        """[B, 3, S, S] in [-1, 1]: short side to S, centre crop."""
        image = frames.flip(-1).permute(0, 3, 1, 2).to(self.prototypes.dtype)
        scale = self._size / min(image.shape[2:])
        height, width = (max(self._size, int(n * scale)) for n in image.shape[2:])
        image = F.interpolate(image.float(), (height, width), mode="bilinear", antialias=True).to(image.dtype)
        top, left = (height - self._size) // 2, (width - self._size) // 2
        return image[..., top : top + self._size, left : left + self._size] / 127.5 - 1

    def judge(self, latent: Tensor) -> Tensor:
        """[B, 4, S/8, S/8] to scores [B, K], a step at a time."""
        embeddings, gates = zip(*self._encoded(latent), strict=True)
        h, w = torch.stack(embeddings, 1), torch.stack(gates, 1)
        share = torch.softmax(self.attention(h), 1)
        embedding, gate = (h * share).sum(1), (w * share).sum(1)
        distance = (gate[:, None, None] * (embedding[:, None, None] - self.prototypes) ** 2).sum(-1)
        tau = self.log_tau.exp().clamp(0.5, 5.0)
        return tau * torch.logsumexp(-distance / tau, -1)

    def _encoded(self, latent: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for alpha, sigma in self._steps:
            yield self.encoder((alpha * latent + sigma * torch.randn_like(latent)) / sigma)


def flops(method: ReferenceMethod, size: int) -> dict[str, int]:
    """Floating-point operations (2 a multiply-add) of one image: "vae", "steps". Counted without computing."""
    from torch.utils.flop_counter import FlopCounterMode

    counted = {}
    with torch.device("meta"):
        inputs = {"vae": torch.empty(1, 3, size, size), "steps": torch.empty(1, 4, size // 8, size // 8)}
    parts = {"vae": method.vae, "steps": method.judge}
    method.to("meta")
    for name, part in parts.items():
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            part(inputs[name])
        counted[name] = counter.get_total_flops()
    return counted


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(_GROUPS, channels, _EPSILON)
