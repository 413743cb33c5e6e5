"""Verdicts of a trained encoder in torch, through the same decision path as the runtime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from ..core.judging import Judge, Origin, Subject
from ..core.noising import Noising
from ..core.outputs import Array, LeakOutputs
from ..core.progress import Progress, silent
from ..core.spec import ModelSpec
from ..core.verdict import Verdict
from .density import support_log_density

ORIGIN = Origin(backend="torch", precision="fp32", bundle="")
_BATCH = 32


def predict(encoder: nn.Module, spec: ModelSpec, latents: Array, *, progress: Progress = silent) -> LeakOutputs:
    """Return outputs averaged over draws for scaled latents float32 [N, C, S/8, S/8].

    The latents are noised with the fixed inference noise, as on every backend.
    """
    noising = Noising(spec)
    encoder.eval()
    parts = []
    for start in range(0, len(latents), _BATCH):
        batch = np.ascontiguousarray(latents[start : start + _BATCH])
        parts.append(run_encoder(encoder, noising(batch)).average_draws(spec.draws))
        progress("classifying images", min(start + _BATCH, len(latents)), len(latents))
    return concatenate(parts, spec)


def run_encoder(encoder: nn.Module, noised_latents: Array) -> LeakOutputs:
    """Run the encoder on noised latents float32 [B, T, C, S/8, S/8] in torch."""
    with torch.inference_mode():
        outputs = encoder(torch.from_numpy(noised_latents))
    return LeakOutputs(*(np.asarray(o.numpy(), np.float32) for o in outputs))


def concatenate(parts: Sequence[LeakOutputs], spec: ModelSpec) -> LeakOutputs:
    """Concatenate batches of outputs. Without batches, return empty arrays of the right widths."""
    if not parts:
        widths = len(spec.class_names), spec.embedding_dim, spec.embedding_dim, len(spec.timesteps)
        return LeakOutputs(*(np.empty((0, width), np.float32) for width in widths))
    return LeakOutputs.concatenate(parts)


def verdicts(judge: Judge, paths: Sequence[str], outputs: LeakOutputs) -> list[Verdict]:
    """Return one verdict for each path and row of outputs."""
    density = support_log_density(judge.support, outputs.embedding)
    return [
        judge.verdict(Subject(path=path), outputs, row, log_density=float(density[row]))
        for row, path in enumerate(paths)
    ]
