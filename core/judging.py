"""Verdicts from rows of outputs: one implementation for training runs and all backends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .decision import Decision, Judgement, judge, probabilities
from .outputs import LeakOutputs
from .spec import ModelSpec
from .support import Support
from .verdict import Face, Verdict


@dataclass(frozen=True)
class Origin:
    """The source of the outputs, as recorded in a verdict."""

    backend: str
    precision: str
    bundle: str  # Bundle.identity; empty for a training run


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The image or face that a verdict is about."""

    path: str
    face: Face | None = None
    notes: tuple[str, ...] = ()  # of the image reader, appended to the reasons
    latency_ms: Mapping[str, float] = field(default_factory=dict)


class Judge:
    """Turns outputs into verdicts, with the spec, decision and support of one precision."""

    def __init__(
        self, spec: ModelSpec, decision: Decision, support: Support, *, origin: Origin, notes: tuple[str, ...] = ()
    ) -> None:
        """`notes` hold for the precision as a whole; every verdict has them among its reasons."""
        self.spec, self.decision, self.support, self.origin, self.notes = spec, decision, support, origin, notes

    def verdict(
        self, subject: Subject, outputs: LeakOutputs, row: int, *, log_density: float, faults: tuple[str, ...] = ()
    ) -> Verdict:
        """Return the verdict on row `row` of outputs averaged over draws.

        If there are `faults`, the verdict is "abstain" and they are its reasons.
        """
        spec = self.spec
        shares = probabilities(outputs.scores[row], self.decision.temperature)
        judgement = judge(shares, log_density, spec, decision=self.decision)
        if faults:
            judgement = Judgement(kind="abstain", label="abstain", probability=0.0, reasons=faults)
        weights = outputs.step_weights[row]
        return Verdict(
            path=subject.path,
            verdict=judgement.kind,
            label=judgement.label,
            probability=judgement.probability,
            log_density=log_density,
            scores=dict(zip(spec.class_names, shares.tolist(), strict=True)),
            step_weights={str(t): float(w) for t, w in zip(spec.timesteps, weights, strict=True)},
            prototype=self.nearest_prototype(outputs, row),
            reasons=(*judgement.reasons, *self.notes, *subject.notes),
            backend=self.origin.backend,
            precision=self.origin.precision,
            bundle=self.origin.bundle,
            latency_ms=subject.latency_ms,
            face=subject.face,
        )

    def nearest_prototype(self, outputs: LeakOutputs, row: int) -> str:
        """Return the nearest prototype by gated distance as "CLASS/INDEX"; empty if a distance is not finite.

        With two branches it is a pair, "CLASS/INDEX+INDEX": the nearest prototype of the class in each branch.
        """
        branches = len(self.spec.branches)
        distances = self.support.prototype_distances(outputs.embedding[row], outputs.gates[row], branches=branches)
        if not np.isfinite(distances).all():
            return ""
        k = int(distances.min(axis=-1).sum(axis=0).argmin())
        return f"{self.spec.class_names[k]}/{'+'.join(map(str, distances[:, k].argmin(axis=-1)))}"
