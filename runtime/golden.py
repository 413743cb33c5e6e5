"""The golden image: a variant that does not give on this machine what its bundle promises is refused."""

from __future__ import annotations

import numpy as np

from ..core.bundle import Bundle
from ..core.errors import BundleError, ParityError
from .backends import registry
from .backends.base import Backend
from .pipeline import Pipeline

_RELATIVE_TOLERANCE = 1e-4  # of the largest score, for a backend that the bundle states no tolerance for


def check_golden(bundle: Bundle, pipeline: Pipeline, backend: Backend) -> None:
    """Run the golden image. Raises ParityError beyond the tolerance, BundleError when the bundle promises nothing."""
    golden, precision = bundle.golden(), backend.precision
    expected = golden.scores.get(precision)
    if expected is None or len(expected) != len(bundle.spec.class_names):
        raise BundleError(f"{bundle.path}: golden.npz holds no scores for {precision}; export the bundle again")
    scores = pipeline.run([pipeline.prepare(golden.image)]).outputs.scores[0]
    default = _RELATIVE_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    stated = bundle.decisions[precision].tolerance
    stands_for = registry.REFERENCE if backend.name in registry.COMPILED else backend.name  # see precision.choose
    tolerance = stated.get(backend.name, stated.get(stands_for, default))
    difference = float(np.abs(scores - expected).max())
    if not difference <= tolerance:  # so that a NaN is refused too
        raise ParityError(
            f"{bundle.path}: {precision} on {backend.name} moves the golden image's scores by {difference:.3g}, "
            f"beyond the {tolerance:.3g} that the bundle allows; try another backend or precision, or export it again"
        )
