"""A small AutoencoderKL, trained on the quickstart's pictures and saved in diffusers' format.

The loss compares pixels and their gradients, so that the latents keep the fine structure with the trace of an
upsampler; a loss on pixels alone gives smooth reconstructions without it. A small head also predicts the energy of each
band of the 8 x 8 cosine transform from the latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core.errors import require
from ..core.files import atomic_folder
from ..core.images import read_image
from ..core.progress import Progress, silent

_CHANNELS = (8, 16, 32, 64)
_CROP, _BATCH = 64, 8
_PEAK_RATE = 4e-3
_KL_WEIGHT, _TEXTURE_WEIGHT = 1e-6, 2.0
_FLOOR = 1e-5  # added to a band's energy before the logarithm
_BANDS = 64
_GROUPS = 4
_FINE, _GAIN = ((0, 2), (2, 0), (1, 2), (2, 1), (2, 2)), 10.0
_SCALE_SAMPLE = 128  # pictures
_LUMA = (0.299, 0.587, 0.114)


def train_vae(images: Sequence[Path], out: Path, steps: int, *, seed: int, progress: Progress = silent) -> None:
    """Train on image files of one size, at least 64 pixels, and write the folder `out` atomically.

    The `scaling_factor` gives the latents of these images unit variance. Raises ImageError, StorageError.
    """
    pixels = np.stack([read_image(path).pixels[:, :, ::-1] for path in images])
    torch.manual_seed(seed)
    vae = _build(pixels.shape[1])
    _sharpen(vae.encoder.conv_in)
    head = nn.Sequential(nn.Conv2d(4, 64, 3, 1, 1), nn.SiLU(), nn.Conv2d(64, _BANDS, 1))
    texture = _Texture(_tensor(pixels[::7]))
    parameters = [*vae.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=_PEAK_RATE, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _PEAK_RATE, steps, pct_start=0.06)
    rng = np.random.default_rng([seed, 0x76])
    for step in range(steps):
        batch = _tensor(_crops(pixels, rng))
        posterior = vae.encode(batch).latent_dist
        made = vae.decode(posterior.sample()).sample
        loss = functional.l1_loss(made, batch) + _gradient_loss(made, batch) + _KL_WEIGHT * posterior.kl().mean()
        loss = loss + _TEXTURE_WEIGHT * functional.l1_loss(head(posterior.mean), texture(batch))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        progress("training the VAE", step + 1, steps)
    vae.eval().register_to_config(scaling_factor=_unit_scale(vae, pixels))
    with atomic_folder(out) as folder:
        vae.save_pretrained(folder, safe_serialization=True)


class _Texture(nn.Module):
    """The targets of the head: images [B, 3, S, S] to band energies [B, 64, S/8, S/8].

    Log energy of each coefficient of the luma's 8 x 8 cosine transform, averaged over 3 x 3 blocks and standardised on
    a sample of pictures.
    """

    def __init__(self, sample: Tensor) -> None:
        super().__init__()
        k = np.arange(8)
        basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / 16) * 0.5
        basis[0] /= np.sqrt(2)
        filters = np.einsum("ui,vj->uvij", basis, basis).reshape(_BANDS, 1, 8, 8)
        self.filters = torch.tensor(filters, dtype=torch.float32)
        energy = self._log_energy(sample)
        self.mean, self.deviation = energy.mean((0, 2, 3), keepdim=True), energy.std((0, 2, 3), keepdim=True)

    def forward(self, images: Tensor) -> Tensor:
        return (self._log_energy(images) - self.mean) / self.deviation

    def _log_energy(self, images: Tensor) -> Tensor:
        luma = (images * images.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
        energy = functional.conv2d(luma, self.filters, stride=8) ** 2
        return torch.log(functional.avg_pool2d(energy, 3, 1, 1, count_include_pad=False) + _FLOOR)


def _build(size: int) -> Any:
    diffusers = require("diffusers", "train")
    return diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=_CHANNELS,
        layers_per_block=1,
        norm_num_groups=_GROUPS,
        sample_size=size,
    )


def _sharpen(conv: nn.Conv2d) -> None:
    """Initialise the first layer with colours and amplified fine structure (3 x 3 cosine transform of the luma).

    Fine structure has a hundredth of the picture's contrast. After random filters, the nonlinearities are nearly linear
    in it, so that its energy is learnt late or never.
    """
    k = np.arange(3)
    basis = np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / 6)
    basis /= np.linalg.norm(basis, axis=1, keepdims=True)
    weight = torch.zeros_like(conv.weight)
    weight[range(3), range(3)] = torch.full((3, 3), 1 / 9)
    for channel, (u, v) in enumerate(_FINE, start=3):
        kernel = torch.tensor(np.outer(basis[u], basis[v]), dtype=torch.float32)
        weight[channel] = _GAIN * torch.tensor(_LUMA).view(3, 1, 1) * kernel
    with torch.no_grad():
        conv.weight.copy_(weight)


def _gradient_loss(made: Tensor, wanted: Tensor) -> Tensor:
    across = functional.l1_loss(made[..., 1:] - made[..., :-1], wanted[..., 1:] - wanted[..., :-1])
    down = functional.l1_loss(made[..., 1:, :] - made[..., :-1, :], wanted[..., 1:, :] - wanted[..., :-1, :])
    return across + down


def _crops(pixels: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw random crops that are aligned with the 8-pixel grid of JPEG."""
    corners = rng.integers(0, (pixels.shape[1] - _CROP) // 8 + 1, (_BATCH, 2)) * 8
    chosen = rng.integers(0, len(pixels), _BATCH)
    return np.stack([pixels[i, y : y + _CROP, x : x + _CROP] for i, (y, x) in zip(chosen, corners, strict=True)])


def _unit_scale(vae: Any, pixels: npt.NDArray[np.uint8]) -> float:
    with torch.inference_mode():
        sample = pixels[:: max(1, len(pixels) // _SCALE_SAMPLE)]  # covers every class, since files are sorted by class
        means = [vae.encode(_tensor(sample[i : i + 8])).latent_dist.mean for i in range(0, len(sample), 8)]
    return float(1.0 / torch.cat(means).std())


def _tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
