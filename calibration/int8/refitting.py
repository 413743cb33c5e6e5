"""The refit during calibration: loads the teacher, caches latents and exports the student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...core.bundle import Bundle
from ...core.errors import BundleError, CheckpointError
from ...core.outputs import LeakOutputs
from ...core.progress import Progress
from ...core.spec import ModelSpec
from ...export.leak_graph import export_leak_encoder
from ...train.config import TrainConfig
from ...train.data import Listing
from ...train.predict import concatenate, predict
from ...train.run import Run
from ...train.two_branches import Encoder, has_prototypes
from ..validation_images import paths_of
from .graph_latents import GraphLatents, Rows
from .refit import LatentPairs, RefitConfig, refit

_CHUNK = 8  # images per forward pass, which bounds memory


@dataclass(frozen=True)
class Teacher:
    """The fp32 leak encoder and its training configuration."""

    encoder: Encoder
    config: TrainConfig


class Refitter:
    """Refits the leak encoder for each quantised VAE encoder of a calibration."""

    def __init__(self, teacher: Teacher, recipe: RefitConfig, cache: Path, *, bundle: Path) -> None:
        """`cache` stores latents of training images, so that an interrupted calibration of `bundle` resumes."""
        self._teacher, self._recipe, self._cache = teacher, recipe, cache
        self._bundle = str(bundle.resolve())
        self._latents: GraphLatents | None = None  # of the training images, the same for every attempt
        self.prototypes = teacher.encoder.prototypes.detach().numpy()  # [K, M, D], of the last refit

    def refit(
        self, spec: ModelSpec, listing: Listing, fp32: bytes, *, int8: bytes, threads: int, progress: Progress
    ) -> tuple[bytes, LeakOutputs]:
        """Return the student as a float32 graph, and its outputs for the int8 latents of the training images.

        Uses at most `RefitConfig.images` training images, a seeded random sample. Raises ModelError, ImageError,
        DataError if an image changes meanwhile, StorageError.
        """
        if self._latents is None:
            self._latents = GraphLatents(self._cache, self._sampled(paths_of(listing, "train")))
        exact = self._latents.of(spec, fp32, threads, task="fp32 latents of training images", progress=progress)
        rounded = self._latents.of(
            spec, int8, threads, task="int8 latents of training images", progress=progress, passing=self._bundle
        )
        pairs = LatentPairs(exact, rounded)
        with _one_thread():
            student = refit(
                self._teacher.encoder, pairs, spec, config=self._teacher.config, recipe=self._recipe, progress=progress
            )
            parts = [predict(student, spec, rounded.read(rows)) for rows in _chunks(len(rounded))]
        self.prototypes = student.prototypes.detach().numpy()
        return export_leak_encoder(student, spec), concatenate(parts, spec)

    def done(self) -> None:
        """Delete latents that no later calibration needs. Call it once the calibration has finished."""
        if self._latents is not None:
            self._latents.done()

    def _sampled(self, paths: Sequence[Path]) -> list[Path]:
        order = np.random.default_rng(self._teacher.config.seed).permutation(len(paths))
        return [paths[i] for i in np.sort(order[: self._recipe.images])]


def teacher_of(run: Run, bundle: Bundle) -> Teacher:
    """Return the leak encoder of the run that a bundle was exported from. Raises CheckpointError, BundleError."""
    run.require_finished()
    if run.spec != bundle.spec:
        raise BundleError(
            f"{bundle.path} was not exported from {run.path}: their specs differ; "
            "give the run it was exported from (--run)"
        )
    encoder = run.encoder()
    if not has_prototypes(encoder):
        raise CheckpointError(
            f"{run.path} has a linear head, which can't be exported or refitted; use a run with prototypes"
        )
    stored = bundle.support("fp32").prototypes
    if not np.allclose(stored, encoder.prototypes.detach().numpy(), atol=1e-6):
        raise BundleError(f"{bundle.path} has other weights than {run.path}; give the run it was exported from (--run)")
    return Teacher(encoder, run.info.config)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: batches are small, and the order of sums must not change."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _chunks(count: int) -> list[Rows]:
    return [np.arange(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
