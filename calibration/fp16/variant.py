"""`leakrt export BUNDLE --precision fp16`: derive an FP16 variant and write it if it is accepted, or to be kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.acceptance import FP16_LIMITS, Comparison, Limits, Speedup
from ...core.bundle import Bundle
from ...core.errors import BackendError, BundleError, DataError
from ...core.exclusive import changing
from ...core.outputs import LeakOutputs
from ...core.progress import Progress
from ...core.variants import runs_half
from ...export.sessions import SessionPair
from ..acceptance.attempts import Examiner, OnBackend
from ..acceptance.measuring import Backends, load_variant
from ..acceptance.variant_files import NewVariant, add_refused, add_variant
from ..images import preprocess_file
from ..validation_images import labelled, labels_of, paths_of
from .convert import convert
from .fitting import PRECISION, HalfOutputs, fit_half
from .rounding import rounded
from .search import IslandSearch, SearchStep, score_margins, search_images

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
    keep_refused: bool = field(default=False, kw_only=True)  # write the last attempt, marked, if none is accepted


@dataclass(frozen=True, kw_only=True)
class HalfAttempt:
    """One set of islands, measured on all validation images."""

    step: SearchStep
    comparisons: dict[str, Comparison]  # by backend, or ROUNDED
    failures: tuple[str, ...]  # on ONNX Runtime or ROUNDED; empty if accepted
    speedups: Mapping[str, Speedup] = field(default_factory=dict)  # by backend


@dataclass(frozen=True)
class HalfResult:
    """The search, the attempts, and the bundle that was written (None if it was not changed)."""

    steps: tuple[SearchStep, ...]
    attempts: tuple[HalfAttempt, ...]
    written: Path | None
    refused: bool = False  # whether the variant that was written is marked as refused


def add_fp16(path: Path, data: Path, options: HalfOptions, *, backends: Backends, progress: Progress) -> HalfResult:
    """Search for islands, fit temperature, thresholds and bandwidth, run the acceptance test, and write the variant.

    The bundle is changed only if an attempt is accepted, or with `keep_refused` (see `add_refused`). Raises
    BackendError (an ONNX Runtime older than 1.32), DataError, BundleError, ModelError, StorageError.
    """
    _require_onnxruntime()
    with changing(path, progress):
        bundle = Bundle(path)
        if PRECISION in bundle.precisions and not options.replace:
            raise BundleError(f"{path} already has an fp16 variant; give --replace to replace it")
        bundle.require_precision("fp32")
        return _HalfExport(bundle, data, options, backends=backends, progress=progress).run()


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """A fitted attempt, with what writing it needs."""

    attempt: HalfAttempt
    variant: NewVariant
    runner: SessionPair
    outputs: LeakOutputs  # on ONNX Runtime


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
        self._steps: list[SearchStep] = []
        self._attempts: list[HalfAttempt] = []

    def run(self) -> HalfResult:
        expected = _CAUTION * self._options.limits.max_moved
        tried: _Tried | None = None
        for step in self._search.steps(score_margins(self._examiner.exact.scores)):
            self._steps.append(step)
            if step.error.disagreement <= expected:
                tried = self._try(step)
                if tried and not tried.attempt.failures:
                    return self._result(self._write(tried))
        if not self._attempts or self._attempts[-1].step is not self._steps[-1]:
            tried = self._try(self._steps[-1]) or tried  # it exceeds _CAUTION: let the acceptance test decide
            if tried and not tried.attempt.failures:
                return self._result(self._write(tried))
        if tried and self._options.keep_refused:
            return self._result(self._keep(tried), refused=True)
        return self._result(None)

    def _result(self, written: Path | None, *, refused: bool = False) -> HalfResult:
        return HalfResult(tuple(self._steps), tuple(self._attempts), written, refused and written is not None)

    def _try(self, step: SearchStep) -> _Tried | None:
        """Test one set of islands on all validation images. Returns None if its outputs are not finite."""
        if not np.isfinite(step.error.relative):
            why = ("the graphs in float16 return values that are not finite",)
            self._attempts.append(HalfAttempt(step=step, comparisons={}, failures=why))
            return None
        vae, leak = (convert(m, stem, _islands_of(step, stem)) for stem, m in self._search.models.items())
        runner = load_variant(self._spec, vae, leak, threads=self._options.threads)
        latents, outputs = self._examiner.run(runner, PRECISION)
        strict = self._rounded(step)
        given = HalfOutputs(exact=self._examiner.exact, found=(outputs, strict), latents=latents, labels=self._labels)
        variant = fit_half(self._bundle, (vae, leak), given)
        comparisons = {ROUNDED: self._examiner.compare(variant, strict)}
        comparisons[_REFERENCE] = self._examiner.compare(variant, outputs)
        rejected = tuple(
            f"{name}: {why}" for name, found in comparisons.items() for why in found.failures(self._options.limits)
        )
        self._attempts.append(HalfAttempt(step=step, comparisons=comparisons, failures=rejected))
        return _Tried(attempt=self._attempts[-1], variant=variant, runner=runner, outputs=outputs)

    def _write(self, tried: _Tried) -> Path:
        return add_variant(self._bundle, self._measured(tried), tried.runner)

    def _keep(self, tried: _Tried) -> Path | None:
        return add_refused(self._bundle, self._measured(tried), tried.runner, reasons=tried.attempt.failures)

    def _measured(self, tried: _Tried) -> NewVariant:
        """Measure the attempt, which is the last, on each backend, and return its variant with a report."""
        backends = self._examiner.measure(tried.variant, tried.outputs)
        attempt = replace(
            tried.attempt,
            comparisons=tried.attempt.comparisons | {name: found.comparison for name, found in backends.items()},
            speedups={name: found.speedup for name, found in backends.items()},
        )
        self._attempts[-1] = attempt
        return replace(tried.variant, report=self._report(attempt, backends))

    def _rounded(self, step: SearchStep) -> LeakOutputs:
        graphs = [rounded(model, _islands_of(step, stem)) for stem, model in self._search.models.items()]
        runner = load_variant(self._spec, graphs[0], graphs[1], threads=self._options.threads)
        return self._examiner.run(runner, "strict float16")[1]

    def _spread(self, count: int) -> list[Array]:
        """Return at most `count` validation images in even steps over all images, which are sorted by class."""
        chosen = np.unique(np.linspace(0, len(self._val) - 1, min(count, len(self._val))).round().astype(int))
        return [preprocess_file(self._val[i], self._spec.image_size) for i in chosen]

    def _report(self, attempt: HalfAttempt, backends: Mapping[str, OnBackend]) -> dict[str, Any]:
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
                for s in self._steps
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
