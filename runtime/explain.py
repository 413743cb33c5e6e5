"""The evidence behind a verdict. `explain_picture` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..core.errors import ImageError
from ..core.verdict import Verdict
from .detector import Analysis, Detector
from .prepare import Frame

_GATES_SHOWN = 12


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
    exemplars: tuple[tuple[str, tuple[bytes, ...]], ...]  # each class's nearest prototype ("CLASS/INDEX"), JPEG files


def explain(detector: Detector, analysis: Analysis) -> Explanation:
    """Return the evidence behind one analysis. Raises ImageError if the network was not run."""
    if analysis.evidence is None:
        raise ImageError(f"{analysis.verdict.path}: {'; '.join(analysis.verdict.reasons)}; nothing to explain")
    outputs, names = analysis.evidence.outputs, detector.spec.class_names
    embedding, gates = outputs.embedding[0], outputs.gates[0]
    support = analysis.evidence.support
    distances = support.nearest_prototypes(embedding, gates)  # [K, M]
    pair = _winner_and_runner_up(analysis.verdict, names)
    near = [(k, int(distances[k].argmin())) for k in pair]
    p, q = (support.prototypes[k, m].astype(np.float64) for k, m in near)
    evidence = gates * ((embedding - q) ** 2 - (embedding - p) ** 2)
    exemplars = detector.exemplars()
    return Explanation(
        verdict=analysis.verdict,
        pixels=analysis.evidence.pixels,
        winner=names[pair[0]],
        runner_up=names[pair[1]],
        gates=_largest(evidence, gates),
        exemplars=tuple((f"{names[k]}/{m}", exemplars.of(k, m)) for k, m in near),
    )


def _largest(evidence: npt.NDArray[np.float64], gates: npt.NDArray[np.float32]) -> tuple[GateEvidence, ...]:
    order = np.argsort(-np.abs(evidence), kind="stable")[:_GATES_SHOWN]
    return tuple(GateEvidence(int(i), float(gates[i]), float(evidence[i])) for i in order)


def _winner_and_runner_up(verdict: Verdict, names: Sequence[str]) -> tuple[int, int]:
    """Return the indices of the verdict's class, or of the most probable one, and of the most probable other class."""
    ranked = sorted(range(len(names)), key=lambda k: (names[k] != verdict.label, -verdict.scores[names[k]]))
    return ranked[0], ranked[1]
