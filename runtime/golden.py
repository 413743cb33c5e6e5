"""The golden image check: reject a variant whose scores on this machine differ from those in its bundle."""

from __future__ import annotations

import numpy as np

from ..core.bundle import Bundle
from ..core.errors import BundleError, ParityError
from .backends import registry
from .backends.base import Backend
from .pipeline import Pipeline

_RELATIVE_TOLERANCE = 1e-4  # of the largest score; for a backend without a tolerance in the bundle


def check_golden(bundle: Bundle, pipeline: Pipeline, backend: Backend) -> None:
    """Run the golden image. Raises ParityError beyond the tolerance, BundleError if the bundle has no scores for it."""
    golden, precision = bundle.golden(), backend.precision
    expected = golden.scores.get(precision)
    if expected is None or len(expected) != len(bundle.spec.class_names):
        raise BundleError(f"{bundle.path}: golden.npz contains no scores for {precision}; export the bundle again")
    scores = pipeline.run([pipeline.prepare(golden.image)]).outputs.scores[0]
    default = _RELATIVE_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    stated = bundle.decisions[precision].tolerance
    measured_on = registry.REFERENCE if backend.name in registry.COMPILED else backend.name  # see precision.choose
    tolerance = stated.get(backend.name, stated.get(measured_on, default))
    difference = float(np.abs(scores - expected).max())
    if not difference <= tolerance:  # negated, so that NaN fails too
        raise ParityError(
            f"{bundle.path}: {precision} on {backend.name} changes the golden image's scores by {difference:.3g}, more "
            f"than the bundle's tolerance of {tolerance:.3g}; try another backend or precision, or export it again"
        )
