"""Fitting after training: the density of embeddings and the decision, stored beside the weights.

decision.json         the Decision, with the SHA-256 of the weights and density it belongs to
density.safetensors   the Support
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch

from ..core.decision import Decision
from ..core.errors import BundleError, CheckpointError
from ..core.exclusive import rewriting
from ..core.files import atomic_write, sha256_bytes, sha256_file
from ..core.judging import Judge
from ..core.outputs import Array, LeakOutputs
from ..core.progress import Progress, silent
from ..core.support import Support
from .density import fit_support, support_log_density
from .image_latents import with_pixel_channels
from .layout import Split
from .predict import ORIGIN, predict
from .run import Run
from .thresholds import FALSE_ALARM_RATE, ValidationOutputs, fit_decision
from .trainer import BEST
from .two_branches import Encoder, has_prototypes

DECISION, DENSITY = "decision.json", "density.safetensors"
_LOCK = ".fit.lock"  # not the lock of training, which is held for hours


@dataclass(frozen=True)
class FittedRun:
    """A finished run that can classify images."""

    run: Run
    encoder: Encoder
    judge: Judge  # spec, decision and support
    outputs: dict[Split, LeakOutputs] = field(default_factory=dict)  # of the splits that were predicted so far

    def predict(self, split: Split, *, progress: Progress = silent) -> LeakOutputs:
        """Return the outputs for one split of the run's images."""
        if split not in self.outputs:
            self.outputs[split] = _predict(self.run, self.encoder, split, progress=progress)
        return self.outputs[split]

    def latents(self, split: Split, *, progress: Progress = silent) -> Array:
        """Return the latents of one split, float32 [N, 4 + R, S/8, S/8]."""
        return _latents(self.run, self.encoder, split, progress=progress)


def open_fitted(run: Run, *, progress: Progress = silent) -> FittedRun:
    """Return the run with its stored density and thresholds; fit them at the default rate if there are none.

    Raises the exceptions of `fit_run`.
    """
    run.require_finished()
    kept = _read(run)
    return fit_run(run, progress=progress) if kept is None else FittedRun(run, _encoder(run), kept)


def fit_run(run: Run, *, rate: float = FALSE_ALARM_RATE, progress: Progress = silent) -> FittedRun:
    """Fit density and thresholds to training and validation images at a false-alarm rate.

    Results at the default rate are stored in the run and reused; at another rate the run's files do not change.
    Raises CheckpointError for an unfinished run or a linear head, DataError for too few validation real faces or
    missing images, UsageError for an invalid rate.
    """
    run.require_finished()
    kept = _read(run)
    encoder = _encoder(run)
    if kept is not None and kept.decision.false_alarm_rate == rate:
        return FittedRun(run, encoder, kept)
    val = _predict(run, encoder, "val", progress=progress)
    known: dict[Split, LeakOutputs] = {"val": val}
    if kept is None:
        known["train"] = _predict(run, encoder, "train", progress=progress)
        prototypes = encoder.prototypes.detach().numpy()
        seed = run.info.config.seed
        support = fit_support(known["train"].embedding, val.embedding, prototypes, seed=seed)
    else:
        support = kept.support
    outputs = ValidationOutputs(val.scores, support_log_density(support, val.embedding), run.labels("val"))
    judge = Judge(run.spec, fit_decision(outputs, run.spec, rate=rate), support, origin=ORIGIN)
    if rate == FALSE_ALARM_RATE:
        _write(run, judge)
    return FittedRun(run, encoder, judge, known)


def _predict(run: Run, encoder: Encoder, split: Split, *, progress: Progress) -> LeakOutputs:
    return predict(encoder, run.spec, _latents(run, encoder, split, progress=progress), progress=progress)


def _latents(run: Run, encoder: Encoder, split: Split, *, progress: Progress) -> Array:
    latents, threads = run.latents(split, progress=progress), run.info.config.threads
    images = run.requests(split)
    return with_pixel_channels(latents, encoder, images, spec=run.spec, threads=threads, progress=progress)


def _encoder(run: Run) -> Encoder:
    torch.set_num_threads(run.info.config.threads)
    encoder = run.encoder()
    if not has_prototypes(encoder):
        raise CheckpointError(
            f"{run.path} can't be fitted: its linear head has no prototypes; train a run with prototypes"
        )
    return encoder


def _read(run: Run) -> Judge | None:
    """Return the stored fit of the run's current weights, or None if there is none."""
    try:
        block = json.loads((run.path / DECISION).read_bytes())
        density = (run.path / DENSITY).read_bytes()
        if block.pop("weights") != sha256_file(run.path / BEST) or block.pop("density") != sha256_bytes(density):
            return None
        return Judge(run.spec, Decision.from_json(block), Support.from_bytes(density), origin=ORIGIN)
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError, BundleError):
        return None  # it can be fitted again


def _write(run: Run, judge: Judge) -> None:
    """Write the density first: a decision that names another density is ignored."""
    density = judge.support.to_bytes()
    hashes = {"weights": sha256_file(run.path / BEST), "density": sha256_bytes(density)}
    block: dict[str, Any] = {**judge.decision.to_json(), **hashes}
    with rewriting(run.path, _LOCK, (DENSITY, DECISION)):
        atomic_write(run.path / DENSITY, density)
        atomic_write(run.path / DECISION, json.dumps(block, indent=2).encode())
