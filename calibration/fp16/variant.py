"""`leakrt export BUNDLE --precision fp16`: derive an FP16 variant and write it if it is accepted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.acceptance import FP16_LIMITS, Comparison, Limits, Speedup
from ...core.bounds import observe
from ...core.bundle import Bundle
from ...core.errors import BackendError, BundleError, DataError
from ...core.exclusive import changing
from ...core.outputs import LeakOutputs
from ...core.progress import Progress
from ...core.variants import runs_half
from ...train.density import fit_bandwidth, support_log_density
from ...train.thresholds import ValidationOutputs, fit_decision
from ..acceptance.attempts import Examiner, OnBackend
from ..acceptance.measuring import Backends, load_variant
from ..acceptance.variant_files import NewVariant, add_variant
from ..images import preprocess_file
from ..validation_images import labelled, labels_of, paths_of
from .convert import convert
from .rounding import rounded
from .search import IslandSearch, SearchStep, score_margins, search_images

PRECISION = "fp16"
ROUNDED = "rounded"  # key for strict float16 arithmetic (see `rounding`), next to the names of backends
_REFERENCE = "onnxruntime"
_CAUTION = 0.25  # maximum of expected disagreement, as a share of what the acceptance test allows

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class HalfOptions:
    """Options of the FP16 export."""

    limits: Limits = FP16_LIMITS
    threads: int = 2
    replace: bool = False  # replace an existing fp16 variant


@dataclass(frozen=True, kw_only=True)
class HalfAttempt:
    """One set of islands, measured on all validation images."""

    step: SearchStep
    comparisons: dict[str, Comparison]  # by backend, or ROUNDED
    failures: tuple[str, ...]  # on ONNX Runtime or ROUNDED; empty if accepted
    speedups: Mapping[str, Speedup] = field(default_factory=dict)  # by backend


@dataclass(frozen=True)
class HalfResult:
    """The search, the attempts, and the bundle that was written (None if no attempt was accepted)."""

    steps: tuple[SearchStep, ...]
    attempts: tuple[HalfAttempt, ...]
    written: Path | None


def add_fp16(path: Path, data: Path, options: HalfOptions, *, backends: Backends, progress: Progress) -> HalfResult:
    """Search for islands, fit temperature, thresholds and bandwidth, run the acceptance test, and write the variant.

    The bundle is changed only if an attempt is accepted. Raises BackendError (an ONNX Runtime older than 1.32),
    DataError, BundleError, ModelError, StorageError.
    """
    _require_onnxruntime()
    with changing(path, progress):
        bundle = Bundle(path)
        if PRECISION in bundle.precisions and not options.replace:
            raise BundleError(f"{path} already has an fp16 variant; give --replace to replace it")
        bundle.require_precision("fp32")
        return _HalfExport(bundle, data, options, backends=backends, progress=progress).run()


class _HalfExport:
    def __init__(
        self, bundle: Bundle, data: Path, options: HalfOptions, *, backends: Backends, progress: Progress
    ) -> None:
        self._bundle, self._spec, self._options = bundle, bundle.spec, options
        listing = labelled(data, bundle)
        self._val, self._labels = paths_of(listing, "val"), labels_of(listing, "val")
        if not self._val:
            raise DataError(f"{data} has no validation images, which the acceptance test needs")
        graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
        shown = self._spread(search_images(graphs[0], "vae_encoder"))
        self._search = IslandSearch(self._spec, *graphs, images=shown, threads=options.threads, progress=progress)
        self._examiner = Examiner(
            bundle, self._val, self._labels, backends=backends, threads=options.threads, progress=progress
        )

    def run(self) -> HalfResult:
        expected = _CAUTION * (1.0 - self._options.limits.min_agreement)
        steps: list[SearchStep] = []
        attempts: list[HalfAttempt] = []
        for step in self._search.steps(score_margins(self._examiner.exact.scores)):
            steps.append(step)
            if step.error.disagreement <= expected:
                written = self._attempt(step, steps, attempts)
                if written is not None:
                    return HalfResult(tuple(steps), tuple(attempts), written)
        if (
            not attempts or attempts[-1].step is not steps[-1]
        ):  # the last step exceeds _CAUTION: let the acceptance test decide
            written = self._attempt(steps[-1], steps, attempts)
            return HalfResult(tuple(steps), tuple(attempts), written)
        return HalfResult(tuple(steps), tuple(attempts), None)

    def _attempt(self, step: SearchStep, steps: Sequence[SearchStep], attempts: list[HalfAttempt]) -> Path | None:
        """Test one set of islands on all validation images. Return the bundle's path if the variant was written."""
        if not np.isfinite(step.error.relative):
            attempts.append(
                HalfAttempt(
                    step=step, comparisons={}, failures=("the graphs in float16 return values that are not finite",)
                )
            )
            return None
        graphs = [convert(m, stem, _islands_of(step, stem)) for stem, m in self._search.models.items()]
        runner = load_variant(self._spec, graphs[0], graphs[1], threads=self._options.threads)
        latents, outputs = self._examiner.run(runner, PRECISION)
        variant = self._fit(graphs[0], graphs[1], latents, outputs=outputs)
        comparisons = {ROUNDED: self._examiner.compare(variant, self._rounded(step))}
        comparisons[_REFERENCE] = self._examiner.compare(variant, outputs)
        rejected = tuple(
            f"{name}: {why}" for name, found in comparisons.items() for why in found.failures(self._options.limits)
        )
        if rejected:
            attempts.append(HalfAttempt(step=step, comparisons=comparisons, failures=rejected))
            return None
        backends = self._examiner.measure(variant, outputs)
        comparisons |= {name: found.comparison for name, found in backends.items()}
        attempts.append(
            HalfAttempt(
                step=step,
                comparisons=comparisons,
                failures=(),
                speedups={name: found.speedup for name, found in backends.items()},
            )
        )
        complete = replace(variant, report=self._report(attempts[-1], backends, steps))
        return add_variant(self._bundle, complete, runner)

    def _rounded(self, step: SearchStep) -> LeakOutputs:
        graphs = [rounded(model, _islands_of(step, stem)) for stem, model in self._search.models.items()]
        runner = load_variant(self._spec, graphs[0], graphs[1], threads=self._options.threads)
        return self._examiner.run(runner, "strict float16")[1]

    def _fit(self, vae: bytes, leak: bytes, latents: Array, *, outputs: LeakOutputs) -> NewVariant:
        """Fit bandwidth, temperature and thresholds on validation images. The support keeps the points of fp32."""
        exact = self._bundle.support("fp32")
        support = replace(exact, bandwidth=fit_bandwidth(exact.points, exact.project(outputs.embedding)))
        rate = self._bundle.decisions["fp32"].false_alarm_rate
        density = support_log_density(support, outputs.embedding)
        decision = fit_decision(ValidationOutputs(outputs.scores, density, self._labels), self._spec, rate=rate)
        bounded = replace(decision, bounds=observe(latents, outputs))
        return NewVariant(
            precision=PRECISION, vae_encoder=vae, leak_encoder=leak, support=support, decision=bounded, report={}
        )

    def _spread(self, count: int) -> list[Array]:
        """Return at most `count` validation images in even steps over all images, which are sorted by class."""
        chosen = np.unique(np.linspace(0, len(self._val) - 1, min(count, len(self._val))).round().astype(int))
        return [preprocess_file(self._val[i], self._spec.image_size) for i in chosen]

    def _report(
        self, attempt: HalfAttempt, backends: Mapping[str, OnBackend], steps: Sequence[SearchStep]
    ) -> dict[str, Any]:
        """Return the JSON object that the manifest stores for the variant."""
        return {
            "gate": {name: found.to_json(self._options.limits) for name, found in backends.items()},
            ROUNDED: attempt.comparisons[ROUNDED].to_json(),
            "half_share": attempt.step.half_share,
            "islands": {stem: sorted(_islands_of(attempt.step, stem)) for stem in self._search.models},
            "search": [
                {
                    "island": s.region,
                    "score_error": s.error.relative if np.isfinite(s.error.relative) else None,
                    "expected_disagreement": s.error.disagreement,
                }
                for s in steps
            ],
        }


def _islands_of(step: SearchStep, stem: str) -> set[str]:
    return {node for graph, node in step.islands if graph == stem}


def _require_onnxruntime() -> None:
    import onnxruntime

    version = str(onnxruntime.__version__)
    if not runs_half(version):
        raise BackendError(
            f"can't test an FP16 variant on ONNX Runtime {version}: 1.32 or newer is needed; "
            "pip install -U onnxruntime (needs Python 3.11)"
        )
