"""Acceptance tests of a new variant on every installed backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.acceptance import Comparison, Limits, Speedup, acceptance_to_json, share_failures, speed_failures
from ...core.bundle import Bundle
from ...core.errors import LeakRTError
from ...core.outputs import LeakOutputs
from ...core.progress import Progress
from ...core.variants import NAMED_ONLY
from ...runtime.backends.base import Variant
from ..images import images, preprocess_file
from .measure import compare, judge_all
from .measuring import Backends, VariantRunner, load_variant, run_images, whole_way
from .variant_files import NewVariant

_REFERENCE = "onnxruntime"

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class OnBackend:
    """The acceptance test of a variant on one backend."""

    comparison: Comparison
    speedup: Speedup  # from preprocessed image to outputs, on this backend
    score_difference: float  # largest |difference| from ONNX Runtime's scores of the same variant

    def to_json(self, limits: Limits) -> dict[str, Any]:
        """A JSON object, as the manifest stores it."""
        return {**acceptance_to_json(self.comparison, limits, self.speedup), "score_difference": self.score_difference}


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One set of INT8 layers, fitted and measured."""

    share: float  # of the VAE's multiplications in int8
    float_layers: tuple[str, ...]  # of the VAE, returned to floating point
    leak_int8: bool
    backends: dict[str, OnBackend]
    failures: tuple[str, ...]  # on ONNX Runtime; empty if the variant is accepted


class Examiner:
    """Runs variants on the validation images, and compares them with fp32 on ONNX Runtime, which runs once.

    Attributes: `exact`, the outputs of fp32.
    """

    def __init__(
        self,
        bundle: Bundle,
        paths: Sequence[Path],
        labels: Labels,
        *,
        backends: Backends,
        threads: int,
        progress: Progress,
    ) -> None:
        """`labels` int64 [N] of the N images at `paths`. Raises what running fp32 on ONNX Runtime raises."""
        self._bundle, self._spec, self._paths, self._labels = bundle, bundle.spec, paths, labels
        self._backends, self._progress = backends, progress
        self._graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
        self.exact = self.run(load_variant(self._spec, *self._graphs, threads=threads), "fp32")[1]
        self._reference = judge_all(
            self.exact, labels, self._spec, decision=bundle.decisions["fp32"], support=bundle.support("fp32")
        )

    def run(self, runner: VariantRunner, what: str) -> tuple[Array, LeakOutputs]:
        """Return latents and outputs of the validation images; `what` names the task. Raises ModelError, ImageError."""
        stream, task = (x[0] for x in images(self._paths, self._spec.image_size)), f"{what} on validation images"
        return run_images(runner, self._spec, stream, task=task, total=len(self._paths), progress=self._progress)

    def compare(self, variant: NewVariant, outputs: LeakOutputs) -> Comparison:
        """Compare the outputs on validation images, decided by the variant's own thresholds, with fp32.

        Raises DataError for outputs that are not finite, or a class without an image.
        """
        judged = judge_all(outputs, self._labels, self._spec, decision=variant.decision, support=variant.support)
        return compare(self._reference, judged, self._spec, decision=variant.decision)

    def measure(self, variant: NewVariant, outputs: LeakOutputs) -> dict[str, OnBackend]:
        """Test the variant on each backend that can run it; `outputs` are those of ONNX Runtime. Raises its errors."""
        found = {}
        way = whole_way(self._spec, preprocess_file(self._paths[0], self._spec.image_size))
        for name, loader in self._backends.loaders.items():
            precision, graphs = variant.precision, (variant.vae_encoder, variant.leak_encoder)
            try:
                runner = loader(Variant(self._spec, precision, *graphs))
                got = outputs if name == _REFERENCE else self.run(runner, f"{precision}, {name}")[1]
                comparison = self.compare(variant, got)
                times = self._backends.speedup(
                    name, self._spec, self._graphs, precision=precision, graphs=graphs, run=way
                )
                found[name] = OnBackend(comparison, times, float(np.abs(got.scores - outputs.scores).max()))
            except LeakRTError:
                if name == _REFERENCE:
                    raise
        return found

    def fp32_tolerance(self) -> dict[str, float]:
        """Return the tolerance of fp32 scores by backend, for backends within the tolerance of ONNX Runtime."""
        allowed = self._bundle.decisions["fp32"].tolerance.get(_REFERENCE, 0.0)
        found = {}
        for name, loader in self._backends.loaders.items():
            if name == _REFERENCE:
                continue
            try:
                got = self.run(loader(Variant(self._spec, "fp32", *self._graphs)), f"fp32, {name}")[1]
            except LeakRTError:
                continue
            if float(np.abs(got.scores - self.exact.scores).max()) <= allowed:
                found[name] = allowed
        return found


def failures(found: dict[str, OnBackend], share: float, limits: Limits) -> tuple[str, ...]:
    """Return the reasons to reject an attempt.

    The result is empty if the variant is accepted on ONNX Runtime, mostly INT8, and faster on some backend.
    `share`: share of the VAE's multiplications in INT8.
    """
    counted = [backend.speedup for name, backend in found.items() if name not in NAMED_ONLY]
    return (*found[_REFERENCE].comparison.failures(limits), *share_failures(share), *speed_failures(counted))
