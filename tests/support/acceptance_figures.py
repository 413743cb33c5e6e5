"""Gates as manifests hold them, with figures that hold: for tests of what is said besides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from leakrt.core.acceptance import LIMITS, Changes, Comparison, Speedup, acceptance_to_json

HELD = Comparison(
    images=900,
    macro_auc=0.97,
    macro_auc_drop=0.0004,
    agreement=0.9995,
    agreement_confident=1.0,
    verdict_agreement=899 / 900,
    false_alarms=4,
    real_faces=90,
    interval=(0, 10),
    changes=Changes(verdicts=1, crossings=0, score_error=0.004, counted=896, labels=0),
)


def result_with_figures(precision: str, gate: Mapping[str, Any]) -> dict[str, Any]:
    """`gate` with the figures that it does not state; of its speed only int8's, which must have one."""
    told = json.loads(json.dumps(acceptance_to_json(HELD, LIMITS[precision], Speedup(1.7, 1.6, 1.8, 30))))
    if precision != "int8" or "speedup" in gate:
        told = {name: value for name, value in told.items() if not name.startswith("speedup")}
    return {**told, **gate}


def results_with_figures(precision: str, gates: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Backend to gate, each with figures."""
    return {backend: result_with_figures(precision, gate) for backend, gate in gates.items()}
