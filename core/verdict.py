"""Verdict: the result for one face, written as one JSON line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from .decision import Kind


@dataclass(frozen=True)
class Face:
    """The position of a detected face in its image."""

    index: int  # rank among the faces of this image, largest first
    box: tuple[int, int, int, int]  # x, y, width, height in pixels


@dataclass(frozen=True)
class Verdict:
    """The result for one face of one image. If `error` is set, nothing was classified and `verdict` is None."""

    path: str
    verdict: Kind | None
    label: str  # a class name, "unknown", "abstain"; empty with an error
    probability: float  # of the label's class; for unknown and abstain, of the likeliest class
    log_density: float
    scores: Mapping[str, float]  # class name to probability, after temperature
    step_weights: Mapping[str, float]  # timestep to its share in the pooled embedding
    prototype: str  # nearest prototype, "CLASS/INDEX", an index per branch; empty with an error or non-finite distances
    reasons: tuple[str, ...]  # empty only with an error; includes faults found in the outputs
    backend: str
    precision: str
    bundle: str  # first 12 hex digits of the manifest's SHA-256
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # stage to milliseconds
    face: Face | None = None  # None: the whole image was classified
    error: str | None = None

    def to_json(self) -> str:
        """Return one JSON line, without a newline. A number that is not finite becomes null."""
        return json.dumps(_finite(asdict(self)), ensure_ascii=False, allow_nan=False)

    @classmethod
    def failed(cls, path: str, error: str, backend: str, *, precision: str, bundle: str) -> Verdict:
        """Return the verdict for an image that could not be classified."""
        return cls(path, None, "", 0.0, math.nan, {}, {}, "", (), backend, precision, bundle, error=error)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value
