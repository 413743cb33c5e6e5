"""Training of a detector's branches, one after the other, and their fusion.

With the latent branch alone, the files of its Trainer lie in the RUN folder. With a pixel branch, each branch has a
folder of its own in RUN, and RUN/best.safetensors holds both branches and the weights of their scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from ..core.files import make_folder
from ..core.progress import Progress
from .checkpoint import Checkpoint
from .config import TrainConfig
from .leak_encoder import LeakEncoder
from .metrics_log import METRICS_FILE, EpochMetrics
from .pixel_task import PixelData, PixelNetwork, PixelTask
from .run import RunInfo
from .trainer import BEST, LAST, LatentTask, Task, Trainer, TrainingData, reproducible, validation_metrics
from .two_branches import TwoBranchEncoder, fit_weights

LATENT, PIXEL = "latent-branch", "pixel-branch"
BRANCH_FOLDERS = (LATENT, PIXEL)
BRANCH_FILES = tuple(f"{folder}/{name}" for folder in BRANCH_FOLDERS for name in (BEST, LAST, METRICS_FILE))

Report = Callable[[EpochMetrics], None]


def train_branches(
    out: Path, info: RunInfo, latents: TrainingData, *, pixels: PixelData | None, progress: Progress, report: Report
) -> None:
    """Train or resume the branches of a run. `pixels` are given exactly if the spec has a pixel branch.

    Raises ModelError, CheckpointError, StorageError.
    """
    spec, config = info.spec, info.config
    if pixels is None:
        Trainer(out, config, lambda: LatentTask(spec, config, data=latents)).run(progress, report=report)
        return
    own = config.pixel_branch()
    tasks: dict[str, tuple[TrainConfig, Callable[[], Task]]] = {
        LATENT: (config, lambda: LatentTask(spec.one_branch(), config, data=latents)),
        PIXEL: (own, lambda: PixelTask(spec, own, data=pixels)),
    }
    for name, (recipe, make_task) in tasks.items():
        make_folder(out / name)
        trainer = Trainer(out / name, recipe, make_task)
        trainer.run(progress, report=report)
    _fuse(out, info, latents, pixels=pixels)


def _fuse(out: Path, info: RunInfo, latents: TrainingData, *, pixels: PixelData) -> None:
    """Write the weights of both branches' best epochs and of their scores to RUN/best.safetensors."""
    spec, config = info.spec, info.config
    with reproducible(config):
        latent_task = LatentTask(spec.one_branch(), config, data=latents)
        pixel_task = PixelTask(spec, config.pixel_branch(), data=pixels)
        best = {name: Checkpoint.read(out / name / BEST) for name in BRANCH_FOLDERS}
        latent_task.network.load_state_dict(best[LATENT].tensors)
        pixel_task.network.load_state_dict(best[PIXEL].tensors)
        scores = [latent_task.validate(), pixel_task.validate()]
    weights = fit_weights(scores, pixels.val.labels)
    fused = sum(weight * part for weight, part in zip(weights, scores, strict=True))
    metrics = validation_metrics(
        fused,  # type: ignore[arg-type]
        pixels.val.labels,
        epoch=int(best[PIXEL].state["epoch"]),
        learning_rate=float(best[PIXEL].state["learning_rate"]),
        train_loss=float(best[PIXEL].state["train_loss"]),
    )
    encoder = joined(info, latent_task.network, pixel_task.network, weights=weights)
    Checkpoint(encoder.state_dict(), asdict(metrics)).write(out / BEST)


def joined(info: RunInfo, latent: LeakEncoder, pixel: PixelNetwork, *, weights: list[float]) -> TwoBranchEncoder:
    """Return the encoder of two trained branches."""
    encoder = TwoBranchEncoder(info.spec, info.config)
    encoder.latent_branch.load_state_dict(latent.state_dict())
    encoder.pixel_branch.load_state_dict(pixel.leak.state_dict())
    encoder.pixel_encoder.load_state_dict(pixel.pixel_encoder.state_dict())
    encoder.weights.copy_(torch.tensor(weights))
    return encoder.eval()
