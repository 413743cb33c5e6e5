"""`leakrt calibrate`: derive an INT8 variant from an fp32 bundle and write it if it is accepted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...core.acceptance import Limits
from ...core.bounds import observe
from ...core.bundle import Bundle
from ...core.errors import BundleError, DataError, UsageError
from ...core.exclusive import changing
from ...core.files import sha256_bytes
from ...core.noising import Noising
from ...core.outputs import LeakOutputs
from ...core.progress import Progress
from ...export.graph_io import parse_graph
from ...export.sessions import SessionPair
from ...train.density import fit_support
from ..acceptance.attempts import Attempt, Examiner, failures
from ..acceptance.doubt import fit_with_doubt
from ..acceptance.measuring import Backends, load_variant
from ..acceptance.variant_files import NewVariant, add_refused, add_variant
from ..images import CalibrationImages, choose_images, images, plain_folder
from ..layers import find_layers, int8_layers, int8_share, multiplications
from ..validation_images import labelled, labels_of, paths_of
from .correction import IMAGES as CORRECTION_IMAGES
from .correction import correct
from .layer_times import layer_times
from .methods import check_method
from .packed import pack_weights
from .qdq import WEIGHT_BITS, observed_tensors, quantise, rectified_ranges
from .ranges import RangeSource, collect_histograms, collect_ranges
from .refitting import Refitter
from .sensitivity import LayerSensitivity, measure_layers, rungs
from .shift import MAX_SHIFT, REFERENCE_IMAGES, Shift, shift_of

_SENSITIVITY_IMAGES = 24

Array = npt.NDArray[np.float32]
Stream = Callable[[Sequence[Path], int], Iterator[Array]]  # (image files, S) -> inputs of a graph


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """Options of a calibration. Raises UsageError for a limit that is out of range."""

    images: int = 256
    method: str = "percentile"
    limits: Limits = field(default_factory=Limits)
    weight_bits: int = WEIGHT_BITS[0]
    threads: int = 2
    range_images: Path | None = None  # folder to take ranges from, instead of the training images
    replace: bool = False  # replace an existing int8 variant
    max_shift: float = MAX_SHIFT  # see `shift`
    keep_refused: bool = False  # write the last attempt, marked, if none is accepted

    def __post_init__(self) -> None:
        if not math.isfinite(self.limits.max_drop):
            raise UsageError(f"a macro AUC drop of {self.limits.max_drop} is out of range; give a number such as 0.002")
        if not 0.0 <= self.max_shift <= 1.0:
            raise UsageError(f"a maximum shift of {self.max_shift} is out of range; give a number from 0 to 1")


@dataclass(frozen=True)
class CalibrationResult:
    """The attempts, and the bundle that was written (None if it was not changed)."""

    attempts: tuple[Attempt, ...]
    sensitivities: tuple[LayerSensitivity, ...]
    written: Path | None
    shift: Shift  # of the calibration images from validation images
    fp32_ms: Mapping[str, float]  # layer of the VAE encoder to its time on ONNX Runtime
    int8_ms: Mapping[str, float]  # the same in the last attempt
    refused: bool = False  # whether the variant that was written is marked as refused


def calibrate(
    path: Path,
    data: Path,
    options: CalibrationOptions,
    *,
    refitter: Refitter | None,
    backends: Backends,
    cache: Path,
    progress: Progress,
) -> CalibrationResult:
    """Calibrate, refit (None keeps the fp32 leak encoder), search for layers, and write the variant.

    The bundle is changed only if an attempt is accepted, or with `keep_refused` (see `add_refused`). Other writers of
    the bundle wait. Raises UsageError, DataError (too few images, or images of another kind), BundleError, ModelError,
    StorageError.
    """
    check_method(options.method)
    with changing(path, progress):
        bundle = Bundle(path)
        if "int8" in bundle.precisions and not options.replace:
            raise BundleError(f"{path} already has an int8 variant; give --replace to replace it")
        result = _Calibration(
            _bundle=bundle,
            _data=data,
            _options=options,
            _refitter=refitter,
            _backends=backends,
            _cache=cache,
            _progress=progress,
        ).run()
        if refitter is not None:
            refitter.done()
    return result


@dataclass(kw_only=True)
class _Calibration:
    """One calibration. Results that the attempts share are computed once."""

    _bundle: Bundle
    _data: Path
    _options: CalibrationOptions
    _refitter: Refitter | None
    _backends: Backends
    _cache: Path
    _progress: Progress

    def __post_init__(self) -> None:
        self._spec = self._bundle.spec
        self._vae, self._leak = (self._bundle.graph(stem, "fp32") for stem in ("vae_encoder", "leak_encoder"))
        parsed = parse_graph(self._vae, "vae_encoder")
        self._layers, self._total = find_layers(parsed, "vae_encoder"), sum(multiplications(parsed).values())
        if self._refitter is None:  # fail early if the encoder can't be quantised
            find_layers(parse_graph(self._leak, "leak_encoder"), "leak_encoder")
        self._listing = labelled(self._data, self._bundle)
        self._val, self._labels = paths_of(self._listing, "val"), labels_of(self._listing, "val")
        if not self._val:
            raise DataError(f"{self._data} has no validation images, which the acceptance test needs")
        self._chosen = self._choose()
        self._shift = self._checked_shift()

    def run(self) -> CalibrationResult:
        ranges = self._ranges(self._vae, "vae_encoder", images, fingerprint=self._chosen.fingerprint)
        sensitivities = self._sensitivities(ranges)
        examiner = Examiner(
            self._bundle,
            self._val,
            self._labels,
            backends=self._backends,
            threads=self._options.threads,
            progress=self._progress,
        )
        attempts: list[Attempt] = []
        vae = self._vae
        for layers in rungs(sensitivities, self._total):
            vae = self._quantised(self._vae, "vae_encoder", layers, ranges=ranges, inputs=self._correction_images())
            for leak, is_int8, train in self._leak_encoders(vae):
                variant, outputs = self._fit(vae, leak, train, examiner=examiner)
                measured = examiner.measure(variant, outputs)
                int8 = int8_layers(parse_graph(vae, "vae_encoder"))
                kept = tuple(layer.name for layer in self._layers if layer.name not in int8)
                share = int8_share(self._layers, int8, self._total)
                why_not = failures(measured, share, self._options.limits)
                attempts.append(
                    Attempt(share=share, float_layers=kept, leak_int8=is_int8, backends=measured, failures=why_not)
                )
                if not why_not:
                    complete = self._reported(variant, attempts[-1], sensitivities, examiner=examiner)
                    result = self._result(attempts, sensitivities, vae)
                    return replace(result, written=add_variant(self._bundle, complete, self._loaded(vae, leak)))
        result = self._result(attempts, sensitivities, vae)
        if not self._options.keep_refused:
            return result
        complete = self._reported(variant, attempts[-1], sensitivities, examiner=examiner)
        written = add_refused(
            self._bundle, complete, self._loaded(vae, variant.leak_encoder), reasons=attempts[-1].failures
        )
        return replace(result, written=written, refused=written is not None)

    def _result(
        self, attempts: Sequence[Attempt], sensitivities: tuple[LayerSensitivity, ...], vae: bytes
    ) -> CalibrationResult:
        """Return the result with the time of each layer, before the bundle is written."""
        image = next(images(self._chosen.paths[:1], self._spec.image_size))
        times = [
            layer_times(graph, "vae_encoder", self._layers, value=image, threads=self._options.threads)
            for graph in (self._vae, vae)
        ]
        return CalibrationResult(tuple(attempts), sensitivities, None, self._shift, fp32_ms=times[0], int8_ms=times[1])

    def _choose(self) -> CalibrationImages:
        folder = self._options.range_images
        candidates = paths_of(self._listing, "train") if folder is None else plain_folder(folder)
        return choose_images(candidates, self._options.images, self._spec, progress=self._progress)

    def _checked_shift(self) -> Shift:
        """Return the distance of the chosen images from validation images. Raises DataError if it is too large."""
        folder, limit = self._options.range_images, self._options.max_shift
        reference = choose_images(self._val, REFERENCE_IMAGES, self._spec, progress=self._progress, least=1)
        found, expected = (
            collect_histograms(
                self._source(self._vae, "vae_encoder", images, chosen=chosen, fingerprint=chosen.fingerprint),
                self._cache,
                self._options.threads,
                progress=self._progress,
            )
            for chosen in (self._chosen, reference)
        )
        advice = "check that the train and val folders hold faces of the same kind"
        if folder is not None:
            advice = f"put faces of that kind into {folder}, or omit --range-images"
        shift = shift_of(found, expected, len(reference.paths))
        shift.require(limit, advice)
        return shift

    def _ranges(self, model: bytes, stem: str, stream: Stream, *, fingerprint: str) -> dict[str, float]:
        """Return the ranges of every tensor that `quantise` needs; `stream` yields the graph's inputs."""
        source, options = self._source(model, stem, stream, chosen=self._chosen, fingerprint=fingerprint), self._options
        found = collect_ranges(source, options.method, self._cache, threads=options.threads, progress=self._progress)
        return rectified_ranges(parse_graph(model, stem), found)

    def _source(
        self, model: bytes, stem: str, stream: Stream, *, chosen: CalibrationImages, fingerprint: str
    ) -> RangeSource:
        parsed = parse_graph(model, stem)
        return RangeSource(
            model=model,
            name=stem,
            tensors=observed_tensors(parsed, find_layers(parsed, stem)),
            inputs=lambda first: stream(chosen.paths[first:], self._spec.image_size),
            count=len(chosen.paths),
            images=fingerprint,
        )

    def _correction_images(self) -> list[Array]:
        return list(images(self._chosen.paths[:CORRECTION_IMAGES], self._spec.image_size))

    def _quantised(
        self, model: bytes, stem: str, layers: Sequence[str], *, ranges: dict[str, float], inputs: Sequence[Array]
    ) -> bytes:
        options = self._options
        rounded = quantise(model, stem, layers, ranges=ranges, weight_bits=options.weight_bits)
        return pack_weights(
            correct(model, rounded, stem, inputs=inputs, threads=options.threads, progress=self._progress), stem
        )

    def _sensitivities(self, ranges: dict[str, float]) -> tuple[LayerSensitivity, ...]:
        shown = [x[0] for x in images(self._chosen.paths[:_SENSITIVITY_IMAGES], self._spec.image_size)]
        bits, threads = self._options.weight_bits, self._options.threads
        return measure_layers(
            self._vae,
            self._leak,
            self._spec,
            layers=self._layers,
            ranges=ranges,
            images=shown,
            weight_bits=bits,
            threads=threads,
            progress=self._progress,
        )

    def _leak_encoders(self, vae: bytes) -> Iterator[tuple[bytes, bool, LeakOutputs | None]]:
        """Yield leak encoders for a quantised VAE encoder, first in int8, then in floating point.

        Each item is the graph, whether it is int8, and the outputs of the refitted leak encoder on training images
        (None without a refit).
        """
        leak, train = self._leak, None
        if self._refitter is not None:
            leak, train = self._refitter.refit(
                self._spec, self._listing, self._vae, int8=vae, threads=self._options.threads, progress=self._progress
            )
        runner, noising = self._loaded(vae, leak), Noising(self._spec)

        def noised(paths: Sequence[Path], size: int) -> Iterator[Array]:
            return (noising(runner.vae_encoder(x)) for x in images(paths, size))

        ranges = self._ranges(
            leak, "leak_encoder", noised, fingerprint=f"{self._chosen.fingerprint} {sha256_bytes(vae)}"
        )
        names = [layer.name for layer in find_layers(parse_graph(leak, "leak_encoder"), "leak_encoder")]
        given = list(noised(self._chosen.paths[:CORRECTION_IMAGES], self._spec.image_size))
        yield self._quantised(leak, "leak_encoder", names, ranges=ranges, inputs=given), True, train
        yield leak, False, train

    def _loaded(self, vae: bytes, leak: bytes) -> SessionPair:
        return load_variant(self._spec, vae, leak, threads=self._options.threads)

    def _fit(
        self, vae: bytes, leak: bytes, train: LeakOutputs | None, *, examiner: Examiner
    ) -> tuple[NewVariant, LeakOutputs]:
        """Fit density, temperature and thresholds for these graphs on validation images."""
        runner = self._loaded(vae, leak)
        latents, outputs = examiner.run(runner, "int8")
        support = self._bundle.support("fp32")
        if train is not None and self._refitter is not None:
            support = fit_support(train.embedding, outputs.embedding, self._refitter.prototypes)
        rate = self._bundle.decisions["fp32"].false_alarm_rate
        decision = fit_with_doubt(
            examiner.exact, (outputs,), self._spec, support=support, labels=self._labels, rate=rate
        )
        decision = replace(decision, bounds=observe(latents, outputs))
        return NewVariant(
            precision="int8", vae_encoder=vae, leak_encoder=leak, support=support, decision=decision, report={}
        ), outputs

    def _reported(
        self, variant: NewVariant, attempt: Attempt, sensitivities: Sequence[LayerSensitivity], *, examiner: Examiner
    ) -> NewVariant:
        options = self._options
        report = {
            "gate": {name: found.to_json(options.limits) for name, found in attempt.backends.items()},
            "int8_share": attempt.share,
            "float_layers": list(attempt.float_layers),
            "leak_encoder_int8": attempt.leak_int8,
            "refitted": self._refitter is not None,
            "method": options.method,
            "weight_bits": options.weight_bits,
            "images": len(self._chosen.paths),
            "images_fingerprint": self._chosen.fingerprint,
            "images_shift": self._shift.to_json(options.max_shift),
            "sensitivity": {s.layer.name: round(s.score_error, 6) for s in sensitivities},
        }
        return replace(variant, report=report, fp32_tolerance=examiner.fp32_tolerance())
