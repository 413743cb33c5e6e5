"""`leakrt calibrate`: from an fp32 bundle and its data to an int8 variant that passed the gate, or to none."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..core.bounds import observe
from ..core.bundle import Bundle
from ..core.errors import BundleError, LeakRTError
from ..core.files import sha256_bytes
from ..core.outputs import LeakOutputs
from ..core.progress import Progress
from ..export.graph_io import parse_graph
from ..train.density import fit_support, support_log_density
from ..train.thresholds import ValidationOutputs, fit_decision
from .gate import Comparison, Judged, Limits, compare, judge_all
from .labelled import labelled, labels_of, paths_of
from .layers import find_layers, int8_share
from .measuring import Backends, Runner, load_variant, run_images
from .methods import check_method
from .qdq import observed_tensors, quantise
from .ranges import RangeSource, collect_ranges
from .refitting import Refitter
from .sensitivity import LayerSensitivity, measure_layers, rungs
from .stream import CalibrationImages, Noising, choose_images, images, plain_folder, preprocess_file
from .variant_files import NewVariant, add_variant

MIN_SPEEDUP = 1.3  # over fp32 on some backend, or it is no int8 variant
_SENSITIVITY_IMAGES = 24
_TIMED_RUNS = 15
_REFERENCE = "onnxruntime"

Array = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class CalibrationOptions:
    """What the user may choose."""

    images: int = 256
    method: str = "percentile"
    limits: Limits = field(default_factory=Limits)
    weight_bits: int = 7
    threads: int = 2
    range_images: Path | None = None  # take ranges from here instead of the training images
    replace: bool = False  # an int8 variant that is there already


@dataclass(frozen=True)
class Attempt:
    """One set of int8 layers, fitted and measured."""

    share: float  # of the VAE's multiplications in int8
    float_layers: tuple[str, ...]  # of the VAE, back in floating point
    leak_int8: bool
    gates: dict[str, Comparison]  # backend to what was measured
    speedup: dict[str, float]  # backend to fp32 time over int8 time
    failures: tuple[str, ...]  # on ONNX Runtime; empty: the gate holds


@dataclass(frozen=True)
class CalibrationResult:
    """What was tried, and what was written (None: nothing, since no attempt passed)."""

    attempts: tuple[Attempt, ...]
    sensitivities: tuple[LayerSensitivity, ...]
    written: Path | None


def calibrate(
    path: Path,
    data: Path,
    options: CalibrationOptions,
    refitter: Refitter | None,
    backends: Backends,
    cache: Path,
    progress: Progress,
) -> CalibrationResult:
    """Calibrate, refit (None: the fp32 leak encoder is kept), search and write.

    The bundle is untouched unless an attempt passes its gate. Raises UsageError, DataError, BundleError, ModelError,
    StorageError.
    """
    check_method(options.method)
    bundle = Bundle(path)
    if "int8" in bundle.precisions and not options.replace:
        raise BundleError(f"{path} has an int8 variant already; give --replace to calibrate it anew")
    work = _Calibration(bundle, data, options, refitter, backends, cache, progress)
    return work.run()


class _Calibration:
    """One calibration. Everything that attempts share is computed once."""

    def __init__(
        self,
        bundle: Bundle,
        data: Path,
        options: CalibrationOptions,
        refitter: Refitter | None,
        backends: Backends,
        cache: Path,
        progress: Progress,
    ) -> None:
        self._bundle, self._spec, self._options = bundle, bundle.spec, options
        self._refitter, self._backends, self._cache, self._progress = refitter, backends, cache, progress
        self._vae, self._leak = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
        parsed = parse_graph(self._vae, "vae_encoder")
        self._layers = find_layers(parsed, "vae_encoder")
        self._tensors = observed_tensors(parsed, self._layers)
        self._listing = labelled(data, bundle)
        self._val = paths_of(self._listing, "val")
        self._labels = labels_of(self._listing, "val")
        self._chosen = self._choose()

    def run(self) -> CalibrationResult:
        ranges = self._vae_ranges()
        sensitivities = self._sensitivities(ranges)
        reference = self._reference()
        attempts: list[Attempt] = []
        for layers in rungs(sensitivities):
            vae = quantise(self._vae, "vae_encoder", layers, ranges, self._options.weight_bits)
            for attempt, variant in self._attempts(vae, layers, reference):
                attempts.append(attempt)
                if not attempt.failures:
                    runner = load_variant(self._spec, variant.vae_encoder, variant.leak_encoder, self._options.threads)
                    written = add_variant(self._bundle, self._reported(variant, attempt, sensitivities), runner)
                    return CalibrationResult(tuple(attempts), sensitivities, written)
        return CalibrationResult(tuple(attempts), sensitivities, None)

    def _attempts(self, vae: bytes, layers: Sequence[str], reference: Judged) -> Iterator[tuple[Attempt, NewVariant]]:
        """The leak encoder in int8 first, then in floating point, behind one quantised VAE encoder."""
        leak, support_train = self._fitted_leak(vae)
        for leak_graph, is_int8 in self._leak_graphs(vae, leak):
            variant, outputs = self._fit(vae, leak_graph, support_train)
            yield self._measure(variant, outputs, layers, is_int8, reference), variant

    def _choose(self) -> CalibrationImages:
        folder = self._options.range_images
        candidates = paths_of(self._listing, "train") if folder is None else plain_folder(folder)
        return choose_images(candidates, self._options.images, self._spec, self._progress)

    def _vae_ranges(self) -> dict[str, float]:
        chosen, size = self._chosen, self._spec.image_size
        source = RangeSource(
            self._vae,
            "vae_encoder",
            self._tensors,
            lambda first: images(chosen.paths[first:], size),
            len(chosen.paths),
            chosen.fingerprint,
        )
        return collect_ranges(source, self._options.method, self._cache, self._options.threads, self._progress)

    def _sensitivities(self, ranges: dict[str, float]) -> tuple[LayerSensitivity, ...]:
        shown = [x[0] for x in images(self._chosen.paths[:_SENSITIVITY_IMAGES], self._spec.image_size)]
        return measure_layers(
            self._vae, self._leak, self._spec, self._layers, ranges, shown, self._options.threads, self._progress
        )

    def _reference(self) -> Judged:
        """The fp32 variant on the validation images."""
        runner = load_variant(self._spec, self._vae, self._leak, self._options.threads)
        _, outputs = self._run_val(runner, "fp32 on validation images")
        decision, support = self._bundle.decisions["fp32"], self._bundle.support("fp32")
        return judge_all(outputs, self._labels, self._spec, decision, support)

    def _fitted_leak(self, vae: bytes) -> tuple[bytes, LeakOutputs | None]:
        """The leak encoder for this VAE encoder in float32, and its outputs on training images when it was refitted."""
        if self._refitter is None:
            return self._leak, None
        return self._refitter.refit(self._spec, self._listing, self._vae, vae, self._options.threads, self._progress)

    def _leak_graphs(self, vae: bytes, leak: bytes) -> list[tuple[bytes, bool]]:
        parsed = parse_graph(leak, "leak_encoder")
        layers = find_layers(parsed, "leak_encoder")
        runner = load_variant(self._spec, vae, leak, self._options.threads)
        noising, chosen, size = Noising(self._spec), self._chosen, self._spec.image_size
        source = RangeSource(
            leak,
            "leak_encoder",
            observed_tensors(parsed, layers),
            lambda first: (noising(runner.vae_encoder(x)) for x in images(chosen.paths[first:], size)),
            len(chosen.paths),
            f"{chosen.fingerprint} {sha256_bytes(vae)}",
        )
        ranges = collect_ranges(source, self._options.method, self._cache, self._options.threads, self._progress)
        names = [layer.name for layer in layers]
        return [(quantise(leak, "leak_encoder", names, ranges, self._options.weight_bits), True), (leak, False)]

    def _fit(self, vae: bytes, leak: bytes, train: LeakOutputs | None) -> tuple[NewVariant, LeakOutputs]:
        """Density, temperature and thresholds for these graphs, on validation images."""
        runner = load_variant(self._spec, vae, leak, self._options.threads)
        latents, outputs = self._run_val(runner, "int8 on validation images")
        support = self._bundle.support("fp32")
        if train is not None and self._refitter is not None:
            support = fit_support(train.embedding, outputs.embedding, self._refitter.prototypes)
        rate = self._bundle.decisions["fp32"].false_alarm_rate
        density = support_log_density(support, outputs.embedding)
        decision = fit_decision(ValidationOutputs(outputs.scores, density, self._labels), self._spec, rate)
        decision = replace(decision, bounds=observe(latents, outputs))
        return NewVariant("int8", vae, leak, support, decision, {}), outputs

    def _measure(
        self, variant: NewVariant, outputs: LeakOutputs, layers: Sequence[str], leak_int8: bool, reference: Judged
    ) -> Attempt:
        gates, speedup = {}, {}
        for name, loader in self._backends.loaders.items():
            try:
                runner = loader(self._spec, "int8", variant.vae_encoder, variant.leak_encoder)
                found = outputs if name == _REFERENCE else self._run_val(runner, f"int8 on {name}")[1]
                judged = judge_all(found, self._labels, self._spec, variant.decision, variant.support)
                gates[name] = compare(reference, judged, self._spec, variant.decision)
                speedup[name] = self._speedup(runner, loader(self._spec, "fp32", self._vae, self._leak))
            except LeakRTError:
                if name == _REFERENCE:
                    raise
        failures = gates[_REFERENCE].failures(self._options.limits)
        if max(speedup.values()) < MIN_SPEEDUP:
            best = max(speedup.values())
            failures = (*failures, f"int8 is {best:.2f} x as fast as fp32 at best, under {MIN_SPEEDUP:g} x")
        kept = tuple(layer.name for layer in self._layers if layer.name not in set(layers))
        return Attempt(int8_share(self._layers, layers), kept, leak_int8, gates, speedup, failures)

    def _speedup(self, int8: Runner, fp32: Runner) -> float:
        """Median time of the VAE encoder at fp32 over that at int8, taken in turn so that both meet the same load."""
        image = preprocess_file(self._val[0], self._spec.image_size)[None]
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(_TIMED_RUNS):
            for runner, taken in zip((fp32, int8), times, strict=True):
                begin = time.perf_counter()
                runner.vae_encoder(image)
                taken.append(time.perf_counter() - begin)
        return statistics.median(times[0]) / statistics.median(times[1])

    def _run_val(self, runner: Runner, task: str) -> tuple[Array, LeakOutputs]:
        stream = (x[0] for x in images(self._val, self._spec.image_size))
        return run_images(runner, self._spec, stream, task, len(self._val), self._progress)

    def _reported(self, variant: NewVariant, attempt: Attempt, sensitivities: Sequence[LayerSensitivity]) -> NewVariant:
        limits = self._options.limits
        gate = {
            name: {**c.to_json(), "passed": not c.failures(limits), "speedup": attempt.speedup.get(name)}
            for name, c in attempt.gates.items()
        }
        report = {
            "gate": gate,
            "int8_share": attempt.share,
            "float_layers": list(attempt.float_layers),
            "leak_encoder_int8": attempt.leak_int8,
            "refitted": self._refitter is not None,
            "method": self._options.method,
            "weight_bits": self._options.weight_bits,
            "images": len(self._chosen.paths),
            "images_fingerprint": self._chosen.fingerprint,
            "sensitivity": {s.layer.name: round(s.score_error, 6) for s in sensitivities},
        }
        return replace(variant, report=report)
