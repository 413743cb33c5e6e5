"""The refit of a calibration: where teacher and training images come from, and the student as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ..core.bundle import Bundle
from ..core.errors import BundleError, CheckpointError
from ..core.graphs import vae_encoder_graph
from ..core.outputs import LeakOutputs
from ..core.progress import Progress
from ..core.spec import ModelSpec
from ..export.leak_graph import export_leak_encoder
from ..export.sessions import GraphRunner
from ..train.config import TrainConfig
from ..train.data import Listing
from ..train.latents import apply_view
from ..train.leak_encoder import LeakEncoder, PrototypeHead
from ..train.predict import predict
from ..train.run import Run
from .refit import LatentPairs, RefitConfig, refit, without_dropout
from .stream import preprocess_file

_VIEWS = 2  # as it is and mirrored: as many as can be paid for without a cache

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Teacher:
    """The fp32 leak encoder with the recipe it was trained by."""

    encoder: LeakEncoder
    config: TrainConfig


class Refitter:
    """Refits the leak encoder for one VAE encoder after another."""

    def __init__(self, teacher: Teacher, recipe: RefitConfig) -> None:
        self._teacher, self._recipe = teacher, recipe
        self._fp32: Array | None = None  # latents of the training images, the same for every attempt
        self.prototypes = teacher.encoder.prototypes.detach().numpy()  # [K, M, D], of the last refit

    def refit(
        self, spec: ModelSpec, listing: Listing, fp32: bytes, int8: bytes, threads: int, progress: Progress
    ) -> tuple[bytes, LeakOutputs]:
        """The student as a float32 graph, and what it gives for the int8 latents of the training images."""
        items = [item for item in listing.items if item.split == "train"]
        paths = [item.path for item in items]
        labels = np.array([item.class_index for item in items], np.int64)
        if self._fp32 is None:
            self._fp32 = _latents(spec, paths, fp32, threads, "fp32 latents of training images", progress)
        rounded = _latents(spec, paths, int8, threads, "int8 latents of training images", progress)
        torch.set_num_threads(threads)
        pairs = LatentPairs(self._fp32, rounded, labels)
        student = refit(
            self._teacher.encoder, pairs, spec, without_dropout(self._teacher.config), self._recipe, progress
        )
        self.prototypes = student.prototypes.detach().numpy()
        outputs = predict(student, spec, np.ascontiguousarray(rounded[:, 0]), progress)
        return export_leak_encoder(student, spec), outputs


def teacher_of(run: Run, bundle: Bundle) -> Teacher:
    """The leak encoder of the run that a bundle was exported from. Raises CheckpointError, BundleError."""
    run.require_finished()
    if run.spec != bundle.spec:
        raise BundleError(
            f"{bundle.path} was not exported from {run.path}: their specs differ; name its own run (--run)"
        )
    encoder = run.encoder()
    if not isinstance(encoder.head, PrototypeHead):
        raise CheckpointError(f"{run.path} has a linear head: an ablation can't be exported or refitted")
    stored = bundle.support("fp32").prototypes
    if not np.allclose(stored, encoder.prototypes.detach().numpy(), atol=1e-6):
        raise BundleError(
            f"{bundle.path} holds other weights than {run.path}; name the run it was exported from (--run)"
        )
    return Teacher(encoder, run.info.config)


def _latents(spec: ModelSpec, paths: Sequence[Path], vae: bytes, threads: int, task: str, progress: Progress) -> Array:
    """float32 [N, V, 4, S/8, S/8] of images as they are and mirrored."""
    runner = GraphRunner(vae_encoder_graph(spec), vae, threads)
    out = np.empty((len(paths), _VIEWS, *spec.latent_shape), np.float32)
    for i, path in enumerate(paths):
        image = preprocess_file(path, spec.image_size)
        for view in range(_VIEWS):
            out[i, view] = runner.run(apply_view(image, view)[None])[0][0]
        progress(task, i + 1, len(paths))
    return out
