"""What a verdict rests on: evidence for a picture that people can read (drawn in `explain_picture`)."""

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
    """One dimension of the embedding, and how it speaks for the winning class against the runner-up.

    `evidence` = w_i ((h_i - q_i)^2 - (h_i - p_i)^2), with p the nearest prototype of the winning class and q that of
    the runner-up: positive speaks for the winner. Over all dimensions it sums to the gated squared distance to q less
    that to p.
    """

    dimension: int
    gate: float  # w_i, in (0, 1)
    evidence: float


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Everything the picture shows."""

    verdict: Verdict
    pixels: Frame  # [H, W, 3] BGR: what was judged
    winner: str  # the class of the verdict; where nothing was decided, the likeliest
    runner_up: str  # the likeliest of the others
    gates: tuple[GateEvidence, ...]  # the dimensions with the largest |evidence|, largest first
    exemplars: tuple[tuple[str, tuple[bytes, ...]], ...]  # nearest prototype of both ("CLASS/INDEX") and its JPEG files


def explain(detector: Detector, analysis: Analysis) -> Explanation:
    """Gather the evidence behind one analysed face or image. Raises ImageError where no network was run."""
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
    """Indices of the verdict's class (the likeliest where none was decided) and of the likeliest other class."""
    ranked = sorted(range(len(names)), key=lambda k: (names[k] != verdict.label, -verdict.scores[names[k]]))
    return ranked[0], ranked[1]
