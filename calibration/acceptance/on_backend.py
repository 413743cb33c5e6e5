"""The acceptance test of an existing variant on another backend, such as an engine."""

from __future__ import annotations

import json
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.acceptance import LIMITS, UNCHANGED, Speedup
from ...core.bundle import Bundle, write_bundle
from ...core.decision import Decision
from ...core.errors import DataError, LeakRTError
from ...core.exclusive import changing
from ...core.outputs import LeakOutputs
from ...core.progress import Progress
from ...core.variants import VARIANTS, refusal, refusal_notes
from ...core.weights import WEIGHTS_NAME
from ...runtime.backends import registry
from ...runtime.backends.base import Backend, Variant
from ..images import images, preprocess_file
from ..validation_images import labelled, labels_of, paths_of
from .attempts import OnBackend
from .measure import Judged, compare, judge_all
from .measuring import VariantRunner, load_variant, run_images, whole_way
from .speed import ON_CPU, clock_of, measure_speedup

_REFERENCE = registry.REFERENCE


@dataclass(frozen=True, kw_only=True)
class AcceptanceResult:
    """The acceptance test of a precision on a backend."""

    precision: str
    backend: str
    found: OnBackend  # `speedup`: relative to fp32 on that backend, or on ONNX Runtime if it can't load fp32
    failures: tuple[str, ...]  # empty if it is accepted

    def to_json(self) -> dict[str, Any]:
        """A JSON object, as the manifest stores it for a backend."""
        return {**self.found.to_json(LIMITS[self.precision]), "passed": not self.failures}


@dataclass(frozen=True, kw_only=True)
class AcceptanceRequest:
    """The precision and the backend to test."""

    precision: str
    backend: str
    device: int = 0  # GPU number, for a backend that runs on a GPU
    threads: int = 0


def run_acceptance_test(path: Path, data: Path, request: AcceptanceRequest, *, progress: Progress) -> AcceptanceResult:
    """Run the acceptance test of a precision on a backend, and write the result to the bundle.

    Compares verdicts on the run's validation images with those of fp32 on ONNX Runtime. If the precision is accepted,
    the bundle also gets a tolerance for the golden image, and `auto` may select the precision on that backend. A
    refused variant that was kept stays refused. Raises BundleError, UsageError, BackendError, EngineError, DataError,
    ModelError, StorageError; the bundle is then not changed.
    """
    with changing(path, progress):
        bundle = Bundle(path)
        for precision in ("fp32", request.precision):
            bundle.require_precision(precision)
        runner = _load(bundle, request.precision, request)
        try:
            result = _Measurement(bundle, data, request, progress=progress).on(runner)
        finally:
            _close(runner)
        _write(bundle, result)
    return result


class _Measurement:
    """The validation images, and their outputs on ONNX Runtime."""

    def __init__(self, bundle: Bundle, data: Path, request: AcceptanceRequest, *, progress: Progress) -> None:
        self._bundle, self._spec, self._request, self._progress = bundle, bundle.spec, request, progress
        listing = labelled(data, bundle)
        self._paths, self._labels = paths_of(listing, "val"), labels_of(listing, "val")
        if not self._paths:
            raise DataError(f"{data} has no validation images, which the acceptance test needs")
        self._exact = self._reference_runner("fp32")

    def on(self, runner: VariantRunner) -> AcceptanceResult:
        """Run the test on a loaded backend."""
        request, precision = self._request, self._request.precision
        exact = self._run(self._exact, f"fp32 on {_REFERENCE}")
        same = exact if precision == "fp32" else self._run(
            self._reference_runner(precision), f"{precision} on {_REFERENCE}"
        )  # fmt: skip
        got = self._run(runner, f"{precision} on {request.backend}")
        reference, decision = self._judged(exact, "fp32"), self._decision(precision)
        comparison = compare(reference, self._judged(got, precision), self._spec, decision=decision)
        if precision == "fp32":  # its thresholds were fitted on ONNX Runtime: allow the false alarms of that backend
            alarms = compare(reference, reference, self._spec, decision=decision).false_alarms
            low, high = comparison.interval
            comparison = replace(comparison, interval=(low, max(high, alarms)))
        difference = float(np.abs(got.scores - same.scores).max())
        found = OnBackend(comparison, self._speedup(runner), difference)
        return AcceptanceResult(
            precision=precision,
            backend=request.backend,
            found=found,
            failures=(
                *comparison.failures(LIMITS[precision]),
                *refusal_notes(self._bundle.provenance, precision),
            ),
        )

    def _speedup(self, runner: VariantRunner) -> Speedup:
        request = self._request
        if request.precision == "fp32":
            return UNCHANGED
        image = preprocess_file(self._paths[0], self._spec.image_size)
        with ExitStack() as opened:
            if request.backend in ON_CPU:  # timed on one thread
                request = replace(request, threads=1)
                runner = _load(self._bundle, request.precision, request)
                opened.callback(_close, runner)
            exact: VariantRunner = self._exact
            with suppress(LeakRTError):  # such as a missing engine
                exact = _load(self._bundle, "fp32", request)
                opened.callback(_close, exact)
            return measure_speedup(exact, runner, whole_way(self._spec, image), clock=clock_of(request.backend))

    def _run(self, runner: VariantRunner, task: str) -> LeakOutputs:
        stream = (x[0] for x in images(self._paths, self._spec.image_size))
        return run_images(runner, self._spec, stream, task=task, total=len(self._paths), progress=self._progress)[1]

    def _judged(self, outputs: LeakOutputs, precision: str) -> Judged:
        support = self._bundle.support(precision)
        return judge_all(outputs, self._labels, self._spec, decision=self._decision(precision), support=support)

    def _decision(self, precision: str) -> Decision:
        return self._bundle.decisions[precision]

    def _reference_runner(self, precision: str) -> VariantRunner:
        return load_variant(self._spec, *_graphs(self._bundle, precision), threads=self._request.threads)


def _graphs(bundle: Bundle, precision: str) -> tuple[bytes, bytes]:
    return bundle.graph("vae_encoder", precision), bundle.graph("leak_encoder", precision)


def _load(bundle: Bundle, precision: str, request: AcceptanceRequest) -> Backend:
    weights = (lambda: bundle.read(WEIGHTS_NAME)) if bundle.has(WEIGHTS_NAME) else None
    pair = Variant(bundle.spec, precision, *_graphs(bundle, precision), weights, str(bundle.path))
    return registry.load(request.backend, pair, request.threads, device=request.device)


def _close(runner: VariantRunner) -> None:
    close = getattr(runner, "close", None)  # backends that hold GPU memory have one
    if close is not None:
        close()


def _write(bundle: Bundle, result: AcceptanceResult) -> None:
    """Write the result to the bundle. Results of other backends stay."""
    precision, provenance, decisions = result.precision, dict(bundle.provenance), dict(bundle.decisions)
    if not result.failures or refusal(bundle.provenance, precision):  # a refused variant may be named where measured
        decision = decisions[precision]
        allowed = max(decision.tolerance.get(_REFERENCE, 0.0), result.found.score_difference)
        decisions[precision] = replace(decision, tolerance={**decision.tolerance, result.backend: allowed})
    if precision != "fp32":  # fp32 needs no test, only a tolerance
        variants = dict(provenance.get(VARIANTS, {}))
        entry = dict(variants.get(precision, {}))
        entry["gate"] = {**entry.get("gate", {}), result.backend: result.to_json()}
        provenance[VARIANTS] = {**variants, precision: entry}
    elif result.failures:
        return
    files = {name: bundle.read(name) for name in bundle.file_sizes}
    blocks = {name: decision.to_json() for name, decision in decisions.items()}
    files["decision.json"] = json.dumps(blocks, indent=2, sort_keys=True).encode()
    write_bundle(bundle.path, bundle.spec, files, provenance=provenance)
