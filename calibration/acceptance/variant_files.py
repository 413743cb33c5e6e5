"""Add a variant to a bundle: its files, its block of decision.json, its golden outputs, its acceptance tests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ... import _core
from ...core.bundle import Bundle, Golden, density_name, graph_name, write_bundle
from ...core.decision import Decision
from ...core.errors import BundleError
from ...core.outputs import LeakOutputs
from ...core.support import Support
from ...core.variants import REFUSED, VARIANTS, accepted_backends
from .measuring import VariantRunner, run_images

_TOLERANCE = {"fp16": 2e-2, "int8": 8e-2}  # relative to the largest score: CPUs differ in the order of sums
_FALLBACK_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class NewVariant:
    """A fitted variant, ready to be written."""

    precision: str
    vae_encoder: bytes
    leak_encoder: bytes
    support: Support
    decision: Decision
    report: Mapping[str, Any]  # JSON: acceptance test of each backend, INT8 share, calibration
    fp32_tolerance: Mapping[str, float] = field(default_factory=dict)  # of fp32 on other backends


def add_variant(bundle: Bundle, variant: NewVariant, runner: VariantRunner) -> Path:
    """Add the variant to the bundle atomically. On failure the bundle is not changed.

    Raises BundleError, StorageError.
    """
    precision = variant.precision
    golden, outputs = _golden(bundle, precision, runner)
    decision = replace(variant.decision, tolerance=_tolerance(variant, outputs))
    exact = bundle.decisions["fp32"]
    decisions = {**bundle.decisions, precision: decision}
    decisions["fp32"] = replace(exact, tolerance={**variant.fp32_tolerance, **exact.tolerance})
    blocks = {p: d.to_json() for p, d in decisions.items()}
    files = {name: bundle.read(name) for name in bundle.file_sizes}
    files |= {
        graph_name("vae_encoder", precision): variant.vae_encoder,
        graph_name("leak_encoder", precision): variant.leak_encoder,
        density_name(precision): variant.support.to_bytes(),
        "decision.json": json.dumps(blocks, indent=2, sort_keys=True).encode(),
        "golden.npz": golden.to_bytes(),
    }
    reports = {**bundle.provenance.get(VARIANTS, {}), precision: dict(variant.report)}
    write_bundle(bundle.path, bundle.spec, files, provenance={**bundle.provenance, VARIANTS: reports})
    return bundle.path


def add_refused(bundle: Bundle, variant: NewVariant, runner: VariantRunner, *, reasons: Sequence[str]) -> Path | None:
    """Add a variant that failed its acceptance test, marked with the `reasons`, at least one.

    No backend of it counts as passed, so that only its name selects it. Returns None, and does not change the bundle,
    if that would replace a variant that passed. Raises BundleError, StorageError.
    """
    if accepted_backends(bundle.provenance, variant.precision):
        return None
    gates = {name: {**test, "passed": False} for name, test in variant.report.get("gate", {}).items()}
    report = {**variant.report, "gate": gates, REFUSED: list(reasons)}
    return add_variant(bundle, replace(variant, report=report), runner)


def _golden(bundle: Bundle, precision: str, runner: VariantRunner) -> tuple[Golden, LeakOutputs]:
    golden, size = bundle.golden(), bundle.spec.image_size
    image = np.empty((3, size, size), np.float32)
    _core.preprocess(golden.image, image)
    outputs = run_images(runner, bundle.spec, [image])[1]
    if not np.isfinite(outputs.scores).all():
        raise BundleError(
            f"{bundle.path}: the {precision} variant returns scores that are not finite on the golden image; use fp32"
        )
    scores = {**golden.scores, precision: outputs.scores[0]}
    return replace(golden, scores=scores, embedding={**golden.embedding, precision: outputs.embedding[0]}), outputs


def _tolerance(variant: NewVariant, outputs: LeakOutputs) -> dict[str, float]:
    """Return the tolerance by backend: a share of the largest score, or the measured difference if that is larger."""
    largest = max(1.0, float(np.abs(outputs.scores).max()))
    allowed = _TOLERANCE.get(variant.precision, _FALLBACK_TOLERANCE) * largest
    tests = variant.report.get("gate", {})
    return {name: max(allowed, float(test.get("score_difference", 0.0))) for name, test in tests.items()}
