"""Training of the pixel branch: pixel encoder and step encoder together, on augmented crops."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..core.noising import Noising
from ..core.schedule import step_coefficients
from ..core.spec import ModelSpec
from .augment import augment
from .config import TrainConfig
from .image_ops import Image
from .leak_encoder import LeakEncoder
from .pixel_encoder import PixelEncoder
from .predict import run_encoder
from .record_cache import RecordTable

_AHEAD = 3  # batches prepared while one is trained on
_PREDICTED = 30  # images per forward pass of the validation
_GRID = 8  # pixels; crops keep the grid of JPEG


@dataclass(frozen=True)
class PixelSet:
    """8-bit images of N images, BGR [N, 1, S, S, 3], with labels."""

    pixels: RecordTable
    labels: npt.NDArray[np.int64]  # [N]


@dataclass(frozen=True)
class PixelData:
    """Training and validation pixels."""

    train: PixelSet
    val: PixelSet


class PixelNetwork(nn.Module):
    """image float32 [B, 3, H, W] to the four outputs of a leak encoder, noised with fresh noise in training mode."""

    coefficients: Tensor

    def __init__(self, spec: ModelSpec, config: TrainConfig) -> None:
        super().__init__()
        self.pixel_encoder = PixelEncoder(spec.branch_channels)
        self.leak = LeakEncoder(spec.one_branch(), config, channels=spec.branch_channels)
        self.leak.set_latent_statistics(1.0)  # of a batch norm without scale and shift
        pairs = step_coefficients(spec.schedule, spec.timesteps, spec.sigma_normalize)
        self.register_buffer("coefficients", torch.from_numpy(pairs), persistent=False)  # [T, 2]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the outputs; the noise is drawn from torch's generator."""
        latent = self.pixel_encoder(image).unsqueeze(1)
        alpha, sigma = self.coefficients.t().reshape(2, 1, -1, 1, 1, 1)
        noise = torch.randn(len(latent), len(self.coefficients), *latent.shape[2:])
        return self.leak(alpha * latent + sigma * noise)  # type: ignore[no-any-return]


class PixelTask:
    """The task of a Trainer for the pixel branch. `config` is that of the branch."""

    def __init__(self, spec: ModelSpec, config: TrainConfig, *, data: PixelData) -> None:
        self.network: PixelNetwork = PixelNetwork(spec, config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.labels = data.val.labels
        self._spec, self._config, self._data = spec, config, data
        self._size = min(config.batch_size, len(data.train.labels))
        self._crop = min(config.pixel.crop, spec.image_size)

    def __len__(self) -> int:
        return len(self._data.train.labels) // self._size

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield crops [B, 3, crop, crop] and class probabilities [B, K]; an incomplete last batch is dropped."""
        labels = self._data.train.labels
        order = np.random.default_rng([self._config.seed, epoch]).permutation(len(labels))
        one_hot = np.eye(len(self._spec.class_names), dtype=np.float32)
        parts = [order[start : start + self._size] for start in range(0, len(self) * self._size, self._size)]
        for rows, crops in zip(parts, self._prepared(parts, epoch), strict=True):
            yield to_tensor(np.stack(crops)), torch.from_numpy(one_hot[labels[rows]])

    def validate(self) -> npt.NDArray[np.float32]:
        """Return the scores of the validation images, float32 [N, K], with the noise of inference."""
        self.network.eval()
        noising, channels = Noising(self._spec), self._spec.branches[-1]
        scores = []
        for start in range(0, len(self.labels), _PREDICTED):
            rows = np.arange(start, min(start + _PREDICTED, len(self.labels)))
            images = to_tensor(self._data.val.pixels.take(rows, np.zeros_like(rows)))
            latent = np.zeros((len(rows), *self._spec.latent_shape), np.float32)
            with torch.inference_mode():
                latent[:, channels] = self.network.pixel_encoder(images).numpy()
            noised = np.ascontiguousarray(noising(latent)[:, :, channels])
            scores.append(run_encoder(self.network.leak, noised).average_draws(self._spec.draws).scores)
        return np.concatenate(scores)

    def _prepared(self, parts: list[npt.NDArray[np.int64]], epoch: int) -> Iterator[list[Image]]:
        """Yield the crops of each part in order, preparing a few batches ahead on `threads` threads."""
        running: deque[list[Future[Image]]] = deque()
        pool = ThreadPoolExecutor(self._config.threads)
        try:
            for rows in parts:
                running.append([pool.submit(self._prepare, int(row), epoch) for row in rows])
                if len(running) > _AHEAD:
                    yield [one.result() for one in running.popleft()]
            while running:
                yield [one.result() for one in running.popleft()]
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(self, row: int, epoch: int) -> Image:
        draw = np.random.default_rng([self._config.seed, epoch, row])
        index = np.array([row])
        pixels: Image = self._data.train.pixels.take(index, np.zeros_like(index))[0]
        if draw.random() < self._config.pixel.augment:
            pixels = augment(pixels, draw)
        top, left = _GRID * draw.integers(0, (self._spec.image_size - self._crop) // _GRID + 1, 2)
        cut = pixels[top : top + self._crop, left : left + self._crop]
        return cut[:, ::-1] if draw.random() < 0.5 else cut


def to_tensor(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """Return BGR uint8 [B, H, W, 3] as RGB float32 [B, 3, H, W] in [-1, 1], channels last in memory."""
    rgb = torch.from_numpy(np.ascontiguousarray(pixels[..., ::-1]))
    return rgb.permute(0, 3, 1, 2).float() / 127.5 - 1.0
