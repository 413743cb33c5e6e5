"""Small generators: one shared encoder, and decoders that differ only in how they upsample.

All are trained together to reproduce the same photographs, so their pictures differ only in the trace of the upsampler:
the checkerboard of a transposed convolution (Odena et al., "Deconvolution and checkerboard artifacts", 2016), the
repeated pixels of nearest-neighbour upsampling, the phases of a pixel shuffle (Shi et al., 2016).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..core.progress import Progress

Pictures = npt.NDArray[np.uint8]  # [N, S, S, 3] RGB
_CROP = 64
_BATCH = 8
_CODE = 24  # channels at a quarter of the resolution
_WIDTH = 24


class _Encoder(nn.Sequential):
    """Encode pictures [B, 3, S, S] in [-1, 1] as codes [B, 24, S/4, S/4]."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, _WIDTH, 4, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(_WIDTH, 2 * _WIDTH, 4, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(2 * _WIDTH, _CODE, 3, 1, 1),
        )


def _transposed(channels: int, out: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, out, 3, 2, 1, output_padding=1)


def _nearest(channels: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(channels, out, 3, 1, 1))


def _staged(upsample: Callable[[int, int], nn.Module]) -> nn.Module:
    """Decode codes in two upsampling steps by 2."""
    return nn.Sequential(
        nn.Conv2d(_CODE, 2 * _WIDTH, 3, 1, 1),
        nn.LeakyReLU(0.1),
        upsample(2 * _WIDTH, _WIDTH),
        nn.LeakyReLU(0.1),
        upsample(_WIDTH, 3),
    )


def _shuffled() -> nn.Module:
    """Decode codes with one shuffle of 4 x 4 phases at the end, like ESPCN."""
    return nn.Sequential(
        nn.Conv2d(_CODE, 2 * _WIDTH, 3, 1, 1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(2 * _WIDTH, 2 * _WIDTH, 3, 1, 1),
        nn.LeakyReLU(0.1),
        nn.Conv2d(2 * _WIDTH, 3 * 16, 3, 1, 1),
        nn.PixelShuffle(4),
    )


class _Patches(nn.Module):
    """Decode codes like a transformer: a linear map turns each token into a patch of 8 x 8 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Conv2d(_CODE, 5 * _WIDTH, 2, 2)
        self.mix = nn.Sequential(nn.LeakyReLU(0.1), nn.Conv2d(5 * _WIDTH, 5 * _WIDTH, 1), nn.LeakyReLU(0.1))
        self.patch = nn.Sequential(nn.Conv2d(5 * _WIDTH, 3 * 64, 1), nn.PixelShuffle(8))

    def forward(self, code: Tensor) -> Tensor:
        return cast(Tensor, self.patch(self.mix(self.token(code))))


_DECODERS: Mapping[str, Callable[[], nn.Module]] = {
    "transposed": lambda: _staged(_transposed),
    "nearest": lambda: _staged(_nearest),
    "pixelshuffle": _shuffled,
    "unseen": _Patches,
}
SEEN = ("transposed", "nearest", "pixelshuffle")
UNSEEN = "unseen"


class Generators:
    """The trained encoder and decoders."""

    def __init__(self, encoder: nn.Module, decoders: Mapping[str, nn.Module]) -> None:
        self._encoder = encoder
        self._decoders = decoders

    @torch.no_grad()
    def generate(self, name: str, pictures: Pictures) -> Pictures:
        """Copy photographs with generator `name`: uint8 RGB [N, S, S, 3], S a multiple of 8, to the same shape."""
        made = self._decoders[name](self._encoder(_to_tensor(pictures)))
        pixels = (made.permute(0, 2, 3, 1) * 127.5 + 127.5).round().clamp(0, 255)
        return np.asarray(pixels.to(torch.uint8).numpy(), np.uint8)


def train_generators(photographs: Pictures, steps: int, seed: int, *, progress: Progress) -> Generators:
    """Train all generators together on random crops of photographs. The same seed gives the same generators."""
    torch.manual_seed(seed)
    encoder = _Encoder()
    decoders = nn.ModuleDict({name: build() for name, build in _DECODERS.items()})
    parameters = [*encoder.parameters(), *decoders.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps, pct_start=0.1)
    rng = np.random.default_rng([seed, 0x67])
    for step in range(steps):
        batch = _to_tensor(_crops(photographs, rng))
        code = encoder(batch)
        loss = torch.stack([functional.l1_loss(decoder(code), batch) for decoder in decoders.values()]).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        progress("training the generators", step + 1, steps)
    return Generators(encoder.eval(), {name: decoder.eval() for name, decoder in decoders.items()})


def _crops(photographs: Pictures, rng: np.random.Generator) -> Pictures:
    count, size = len(photographs), photographs.shape[1]
    crop = min(_CROP, size)
    corners = rng.integers(0, size - crop + 1, (_BATCH, 2))
    chosen = rng.integers(0, count, _BATCH)
    return np.stack([photographs[i, y : y + crop, x : x + crop] for i, (y, x) in zip(chosen, corners, strict=True)])


def _to_tensor(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1.0
