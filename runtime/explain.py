"""The evidence behind a verdict. `explain_picture` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from ..core.errors import ImageError
from ..core.verdict import Verdict
from .detector import Analysis, Detector
from .prepare import Frame

_GATES_SHOWN = 12
_BRANCHES = ("VAE latents", "pixels")  # in the order of `ModelSpec.branches`


@dataclass(frozen=True)
class GateEvidence:
    """One dimension of the embedding and its evidence for the winning class over the runner-up.

    `evidence` = w_i ((h_i - q_i)^2 - (h_i - p_i)^2), where p is the nearest prototype of the winning class and q that
    of the runner-up. Positive values favour the winner. The sum over all dimensions is the gated squared distance to q
    minus that to p.
    """

    dimension: int
    gate: float  # w_i, in (0, 1)
    evidence: float


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The contents of an explanation picture."""

    verdict: Verdict
    pixels: Frame  # [H, W, 3] BGR: the classified face or image
    winner: str  # the verdict's class; for unknown and abstain, the most probable class
    runner_up: str  # the most probable of the other classes
    gates: tuple[GateEvidence, ...]  # the dimensions with the largest |evidence|, largest first
    branches: tuple[tuple[str, float], ...]  # each branch and the sum of its dimensions' evidence
    exemplars: tuple[tuple[str, tuple[bytes, ...]], ...]  # each class's nearest prototype ("CLASS/INDEX"), JPEG files


def explain(detector: Detector, analysis: Analysis) -> Explanation:
    """Return the evidence behind one analysis. Raises ImageError if the network was not run."""
    if analysis.evidence is None:
        raise ImageError(f"{analysis.verdict.path}: {'; '.join(analysis.verdict.reasons)}; nothing to explain")
    outputs, names = analysis.evidence.outputs, detector.spec.class_names
    embedding, gates = outputs.embedding[0], outputs.gates[0]
    support = analysis.evidence.support
    branches = len(detector.spec.branches)
    distances = support.prototype_distances(embedding, gates, branches=branches)  # [branches, K, M]
    pair = _winner_and_runner_up(analysis.verdict, names)
    near = [(k, distances[:, k].argmin(axis=-1)) for k in pair]
    p, q = (_joined(support.prototypes[k], indices) for k, indices in near)
    evidence = gates * ((embedding - q) ** 2 - (embedding - p) ** 2)
    exemplars, count = detector.exemplars(), distances.shape[-1]
    return Explanation(
        verdict=analysis.verdict,
        pixels=analysis.evidence.pixels,
        winner=names[pair[0]],
        runner_up=names[pair[1]],
        gates=_largest(evidence, gates),
        branches=tuple(
            (name, float(part.sum())) for name, part in zip(_BRANCHES, np.split(evidence, branches), strict=False)
        ),
        exemplars=tuple(
            (
                f"{names[k]}/{'+'.join(map(str, indices))}",
                _in_turn([exemplars.of(k, s * count + int(m)) for s, m in enumerate(indices)]),
            )
            for k, indices in near
        ),
    )


def _joined(prototypes: npt.NDArray[np.float32], indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Join the parts of each branch's prototype, from [M, D] of one class, to [D]."""
    parts = np.split(prototypes.astype(np.float64), len(indices), axis=-1)
    return np.concatenate([part[m] for part, m in zip(parts, indices, strict=True)])


def _in_turn(files: Sequence[Sequence[bytes]]) -> tuple[bytes, ...]:
    """Return the nearest file of each branch's prototype, then the second nearest of each, and so on."""
    return tuple(file for rank in zip_longest(*files) for file in rank if file is not None)


def _largest(evidence: npt.NDArray[np.float64], gates: npt.NDArray[np.float32]) -> tuple[GateEvidence, ...]:
    order = np.argsort(-np.abs(evidence), kind="stable")[:_GATES_SHOWN]
    return tuple(GateEvidence(int(i), float(gates[i]), float(evidence[i])) for i in order)


def _winner_and_runner_up(verdict: Verdict, names: Sequence[str]) -> tuple[int, int]:
    """Return the indices of the verdict's class, or of the most probable one, and of the most probable other class."""
    ranked = sorted(range(len(names)), key=lambda k: (names[k] != verdict.label, -verdict.scores[names[k]]))
    return ranked[0], ranked[1]
