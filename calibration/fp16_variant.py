"""`leakrt export BUNDLE --precision fp16`: from an fp32 bundle and its data to an FP16 variant that passed its gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.bounds import observe
from ..core.bundle import Bundle
from ..core.changing import changing
from ..core.errors import BackendError, BundleError, DataError, LeakRTError
from ..core.gates import FP16_LIMITS, Comparison, Limits, Speedup, gate_to_json
from ..core.outputs import LeakOutputs
from ..core.progress import Progress
from ..core.variants import runs_half
from ..export.fp16 import convert
from ..export.rounding import rounded
from ..train.density import fit_bandwidth, support_log_density
from ..train.thresholds import ValidationOutputs, fit_decision
from .fp16_search import IslandSearch, Step, score_margins, search_images
from .gate import Judged, compare, judge_all
from .labelled import labelled, labels_of, paths_of
from .measuring import Backends, Runner, load_variant, run_images, whole_way
from .stream import images, preprocess_file
from .variant_files import NewVariant, add_variant

PRECISION = "fp16"
ROUNDED = "rounded"  # beside the backends: every value that is held in float16 rounded to it, as a GPU does
_REFERENCE = "onnxruntime"
_CAUTION = 0.25  # share of the disagreement that the gate allows which may be expected of a candidate

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HalfOptions:
    """What may be chosen."""

    limits: Limits = FP16_LIMITS
    threads: int = 2
    replace: bool = False  # an fp16 variant that is there already


@dataclass(frozen=True)
class HalfAttempt:
    """One set of islands, measured on all validation images."""

    step: Step
    gates: dict[str, Comparison]  # backend, or ROUNDED, to what was measured
    failures: tuple[str, ...]  # on ONNX Runtime or rounded; empty: the gate holds
    speedups: Mapping[str, Speedup] = field(default_factory=dict)  # of each backend


@dataclass(frozen=True)
class HalfResult:
    """What was tried, and what was written (None: nothing, since no attempt passed)."""

    steps: tuple[Step, ...]
    attempts: tuple[HalfAttempt, ...]
    written: Path | None


def add_fp16(path: Path, data: Path, options: HalfOptions, backends: Backends, progress: Progress) -> HalfResult:
    """Search islands, fit temperature, thresholds and bandwidth, gate, and write.

    The bundle is untouched unless an attempt passes its gate. Raises BackendError (an ONNX Runtime that FP16 is not
    judged on), DataError, BundleError, ModelError, StorageError.
    """
    _require_judge()
    with changing(path, progress):
        bundle = Bundle(path)
        if PRECISION in bundle.precisions and not options.replace:
            raise BundleError(f"{path} has an fp16 variant already; give --replace to make it anew")
        bundle.require_precision("fp32")
        return _HalfExport(bundle, data, options, backends, progress).run()


class _HalfExport:
    """One export. The fp32 outputs on validation images are computed once."""

    def __init__(
        self, bundle: Bundle, data: Path, options: HalfOptions, backends: Backends, progress: Progress
    ) -> None:
        self._bundle, self._spec, self._options = bundle, bundle.spec, options
        self._backends, self._progress = backends, progress
        listing = labelled(data, bundle)
        self._val, self._labels = paths_of(listing, "val"), labels_of(listing, "val")
        if not self._val:
            raise DataError(f"{data} has no validation images; the gate of an fp16 variant is measured on them")
        self._graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
        shown = self._spread(search_images(self._graphs[0], "vae_encoder"))
        self._search = IslandSearch(self._spec, *self._graphs, shown, options.threads, progress)
        exact = load_variant(self._spec, *self._graphs, options.threads)
        self._exact = self._run(exact, "fp32 on validation images")[1]

    def run(self) -> HalfResult:
        decision, support = self._bundle.decisions["fp32"], self._bundle.support("fp32")
        reference = judge_all(self._exact, self._labels, self._spec, decision, support)
        expected = _CAUTION * (1.0 - self._options.limits.min_agreement)
        steps: list[Step] = []
        attempts: list[HalfAttempt] = []
        for step in self._search.steps(score_margins(self._exact.scores)):
            steps.append(step)
            if step.error.disagreement <= expected:
                written = self._attempt(step, reference, steps, attempts)
                if written is not None:
                    return HalfResult(tuple(steps), tuple(attempts), written)
        if not attempts or attempts[-1].step is not steps[-1]:  # cautious no more: the gate itself decides
            written = self._attempt(steps[-1], reference, steps, attempts)
            return HalfResult(tuple(steps), tuple(attempts), written)
        return HalfResult(tuple(steps), tuple(attempts), None)

    def _attempt(
        self, step: Step, reference: Judged, steps: Sequence[Step], attempts: list[HalfAttempt]
    ) -> Path | None:
        """Measure one set of islands on all validation images; the bundle's path when it passed and was written."""
        if not np.isfinite(step.error.relative):
            attempts.append(HalfAttempt(step, {}, ("the rounded graphs give values that are not finite",)))
            return None
        graphs = [convert(m, stem, _of(step, stem)) for stem, m in self._search.models.items()]
        runner = load_variant(self._spec, graphs[0], graphs[1], self._options.threads)
        latents, outputs = self._run(runner, "fp16 on validation images")
        variant = self._fit(graphs[0], graphs[1], latents, outputs)
        gates = {ROUNDED: self._compare(reference, self._rounded(step), variant)}
        gates[_REFERENCE] = self._compare(reference, outputs, variant)
        held = [f"{name}: {why}" for name, gate in gates.items() for why in gate.failures(self._options.limits)]
        speedups: dict[str, Speedup] = {}
        attempts.append(HalfAttempt(step, gates, tuple(held), speedups))
        if held:
            return None
        gates |= self._elsewhere(variant, reference)
        speedups |= {name: self._speedup(name, variant) for name in gates if name != ROUNDED}
        return add_variant(self._bundle, replace(variant, report=self._report(attempts[-1], steps)), runner)

    def _elsewhere(self, variant: NewVariant, reference: Judged) -> dict[str, Comparison]:
        """The gate on the other backends; one that can't run the variant has none."""
        found = {}
        for name, loader in self._backends.loaders.items():
            if name == _REFERENCE:
                continue
            try:
                runner = loader(self._spec, PRECISION, variant.vae_encoder, variant.leak_encoder)
                found[name] = self._compare(reference, self._run(runner, f"fp16 on {name}")[1], variant)
            except LeakRTError:
                continue
        return found

    def _speedup(self, backend: str, variant: NewVariant) -> Speedup:
        """From preprocessed image to outputs."""
        image, graphs = (
            preprocess_file(self._val[0], self._spec.image_size),
            (variant.vae_encoder, variant.leak_encoder),
        )
        way = whole_way(self._spec, image)
        return self._backends.speedup(backend, self._spec, self._graphs, PRECISION, graphs, way)

    def _rounded(self, step: Step) -> LeakOutputs:
        graphs = [rounded(model, _of(step, stem)) for stem, model in self._search.models.items()]
        runner = load_variant(self._spec, graphs[0], graphs[1], self._options.threads)
        return self._run(runner, "every value rounded, on validation images")[1]

    def _fit(self, vae: bytes, leak: bytes, latents: Array, outputs: LeakOutputs) -> NewVariant:
        """Bandwidth, temperature and thresholds on validation images; the support's points stay: training gave them."""
        exact = self._bundle.support("fp32")
        support = replace(exact, bandwidth=fit_bandwidth(exact.points, exact.project(outputs.embedding)))
        rate = self._bundle.decisions["fp32"].false_alarm_rate
        density = support_log_density(support, outputs.embedding)
        decision = fit_decision(ValidationOutputs(outputs.scores, density, self._labels), self._spec, rate)
        bounded = replace(decision, bounds=observe(latents, outputs))
        return NewVariant(PRECISION, vae, leak, support, bounded, {})

    def _compare(self, reference: Judged, outputs: LeakOutputs, variant: NewVariant) -> Comparison:
        judged = judge_all(outputs, self._labels, self._spec, variant.decision, variant.support)
        return compare(reference, judged, self._spec, variant.decision)

    def _run(self, runner: Runner, task: str) -> tuple[Array, LeakOutputs]:
        stream = (x[0] for x in images(self._val, self._spec.image_size))
        return run_images(runner, self._spec, stream, task, len(self._val), self._progress)

    def _spread(self, count: int) -> list[Array]:
        """Validation images spread evenly over the classes: they are sorted by class."""
        chosen = np.unique(np.linspace(0, len(self._val) - 1, min(count, len(self._val))).round().astype(int))
        return [preprocess_file(self._val[i], self._spec.image_size) for i in chosen]

    def _report(self, attempt: HalfAttempt, steps: Sequence[Step]) -> dict[str, Any]:
        """What the manifest tells of the variant."""
        limits, gates = self._options.limits, dict(attempt.gates)
        measured = gates.pop(ROUNDED).to_json()
        return {
            "gate": {name: gate_to_json(c, limits, attempt.speedups[name]) for name, c in gates.items()},
            ROUNDED: measured,
            "half_share": attempt.step.half_share,
            "islands": {stem: sorted(_of(attempt.step, stem)) for stem in self._search.models},
            "search": [
                {
                    "island": s.region,
                    "score_error": s.error.relative if np.isfinite(s.error.relative) else None,
                    "expected_disagreement": s.error.disagreement,
                }
                for s in steps
            ],
        }


def _of(step: Step, stem: str) -> set[str]:
    """The islands of one graph."""
    return {node for graph, node in step.islands if graph == stem}


def _require_judge() -> None:
    import onnxruntime

    version = str(onnxruntime.__version__)
    if not runs_half(version):
        raise BackendError(
            f"FP16 variants are judged on ONNX Runtime 1.32 or newer, and this is {version}; "
            "pip install -U onnxruntime (it needs Python 3.11)"
        )
