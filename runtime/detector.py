"""Detector: a bundle loaded on a backend."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.bundle import Bundle
from ..core.errors import ImageError, UsageError
from ..core.exemplars import Exemplars
from ..core.images import MAX_PIXELS
from ..core.judging import Subject
from ..core.outputs import LeakOutputs
from ..core.support import Support
from ..core.verdict import Verdict
from .backends.base import Description
from .faces import FaceFinder
from .finite import Counters, GuardedVariant, Outcome
from .inputs import Frame, Image, refuse_single
from .loaded import LoadedVariant, quickest
from .precision import choose, safer_precision
from .prepare import Crop, Prepared, Preparer, unreadable
from .read_ahead import ReadAhead
from .threads import resolve_threads


@dataclass(frozen=True)
class Evidence:
    """The network's input for one face or image, and its outputs."""

    pixels: Frame  # [H, W, 3] BGR: the classified face or image
    outputs: LeakOutputs  # one row, averaged over draws
    support: Support  # of the precision that computed `outputs`


@dataclass(frozen=True)
class Analysis:
    """A verdict and its evidence; `evidence` is None if the network was not run."""

    verdict: Verdict
    evidence: Evidence | None


class Detector:
    """A bundle loaded on a backend. Classifies images and returns verdicts.

    On a CPU, the scores of an image do not depend on the call, the batch or the number of threads.
    Methods are thread-safe. On a GPU, batches of different threads overlap; otherwise images are computed one at a
    time.
    """

    def __init__(self, bundle: Bundle, variant: GuardedVariant, faces: FaceFinder | None, *, max_pixels: int) -> None:
        """See `load`."""
        self.spec, self.bundle = bundle.spec, bundle
        self.support = variant.variant.support
        self._guarded = variant
        pipeline = variant.variant.pipeline
        self._preparer = Preparer(pipeline.prepare, faces, max_pixels)
        self._ahead, self._together = pipeline.ahead, pipeline.together

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        backend: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        faces: str | Path | None = None,
        max_pixels: int = MAX_PIXELS,
        device: int = 0,
    ) -> Detector:
        """Load a bundle (a folder or a zip file) and run its golden image.

        `backend`: a name; "auto" selects the first backend, in a fixed order, that can run here and that the bundle
        was measured on; "fastest" times all of those on this machine and selects the fastest.
        `precision`: a name, which must have passed its acceptance test on the backend, or be a refused variant that was
        kept (its verdicts say so); "auto" selects the first of int8, fp16 and fp32 that the bundle contains, that
        passed there and that was not slower than fp32 there.
        `threads`: number of CPU threads; 0 means one per physical core.
        `faces`: a YuNet ONNX file. With it, faces are classified; without it, whole images.
        `max_pixels`: larger image files are rejected before they are decoded.
        `device`: index of the GPU, for a backend that runs on one.

        Raises BundleError, ModelError, BackendError, EngineError (if an engine is missing, the message contains the
        command that builds it), ParityError, UsageError.
        """
        threads = resolve_threads(threads)
        bundle = Bundle(path)
        choices = {choice.backend: choice for choice in choose(bundle, backend, precision)}
        candidates = [
            LoadedVariant.load(bundle, c.precision, c.backend, threads=threads, device=device) for c in choices.values()
        ]
        chosen = quickest(bundle, candidates)
        name = chosen.backend.name
        safer = safer_precision(bundle, choices[name])

        def load_safer() -> LoadedVariant | None:
            return LoadedVariant.load(bundle, safer, name, threads=threads, device=device) if safer else None

        variant = GuardedVariant(chosen, load_safer)
        return cls(bundle, variant, FaceFinder(faces) if faces is not None else None, max_pixels=max_pixels)

    @property
    def counters(self) -> Counters:
        """Counts of images run and of outputs caught, retried and rescued so far."""
        return self._guarded.counters

    def close(self) -> None:
        """Free GPU resources after the batches in flight complete. The detector can't be used afterwards.

        Idempotent, and has no effect on a CPU. A detector that is garbage-collected frees its resources too.
        """
        self._guarded.close()

    def describe(self) -> Description:
        """Return the backend's name, version, device and number of threads."""
        return self._guarded.variant.backend.describe()

    def check(self, image: Image) -> Verdict:
        """Return the verdict on one image or, if the detector has `faces`, on its largest face.

        An image is a file path, a uint8 array [H, W, 3] in BGR order, or a PIL image. Raises ImageError for an image
        that can't be read or classified, UsageError for any other object, ModelError, BackendError.
        """
        return self.check_batch([image])[0]

    def check_batch(self, images: Iterable[Image]) -> list[Verdict]:
        """Return one verdict per image, in order. Raises like `check`, before any computation.

        `images` may be a generator that reuses one array for every image.
        """
        refuse_single(images, "check_batch")
        own = not isinstance(images, (list, tuple))
        prepared = [self._preparer.preprocess(self._preparer.crops(image)[0], own=own) for image in images]
        return self._begin(prepared)()

    def check_faces(self, image: Image) -> list[Verdict]:
        """Return one verdict per face of an image, largest first. Raises like `check`."""
        return self._begin([self._preparer.preprocess(crop, own=False) for crop in self._preparer.crops(image)])()

    def check_stream(self, images: Iterable[Image], *, batch: int = 8) -> Iterator[Verdict]:
        """Yield one verdict per face, in the order of the images.

        An image that can't be classified yields a verdict with `error` set. An exception raised by `images` is raised
        after the verdicts on the images before it. Closing the stream closes a generator.

        A background thread reads, crops and preprocesses the images one after another, at most 2 x `batch` ahead. A
        generator runs in that thread and may reuse one array for every image. With a GPU backend the thread copies the
        crops, the GPU preprocesses them, and the next batches start before the verdicts of a batch are yielded.

        A list or tuple is processed in full batches. For any other source, a batch contains the images that are ready,
        at most `batch`. A verdict then waits at most for the batch in flight and for its own; while the source is
        slower than the model, its batch is one image. A source that is faster than the model is read ahead, and its
        verdicts arrive up to 2 x `batch` images later.

        Raises UsageError for a batch under 1 or a single image, ModelError, BackendError.
        """
        if not isinstance(batch, int) or batch < 1:
            raise UsageError(f"invalid batch size {batch!r}: expected an integer of at least 1")
        refuse_single(images, "check_stream")
        return self._stream(iter(images), batch, full=isinstance(images, (list, tuple, np.ndarray)))

    def analyse(self, image: Image) -> list[Analysis]:
        """Return one analysis per face. An unreadable image gives one whose verdict has `error` set."""
        try:
            return [self._analyse(crop) for crop in self._preparer.crops(image)]
        except (ImageError, UsageError) as error:
            return [Analysis(self._unclassified(unreadable(image, error)), None)]

    def exemplars(self) -> Exemplars:
        """Return the training images nearest to each prototype; empty if the bundle has none. Raises BundleError."""
        if not self.bundle.has("exemplars.npz"):
            return Exemplars({})
        return Exemplars.from_bytes(self.bundle.read("exemplars.npz"))

    def _analyse(self, crop: Crop) -> Analysis:
        prepared = self._preparer.preprocess(crop, own=False)
        if crop.pixels is None:
            return Analysis(self._unclassified(prepared), None)
        (outcome,) = self._start([prepared])()
        evidence = Evidence(crop.pixels.copy(), outcome.result.outputs, outcome.variant.support)
        return Analysis(self._verdict(prepared, outcome), evidence)

    def _stream(self, images: Iterator[Image], batch: int, *, full: bool) -> Iterator[Verdict]:
        group_size = batch if full else self._together(batch)
        in_flight: deque[Callable[[], list[Verdict]]] = deque()
        with ReadAhead(images, self._preparer.prepare, 2 * batch) as ahead:
            while in_flight or not ahead.ended:
                if len(in_flight) < self._ahead:
                    group = ahead.take(group_size, group_size if full else 0 if in_flight else 1)
                    if group:
                        in_flight.append(self._begin([prepared for each in group for prepared in each]))
                        continue
                if in_flight:
                    yield from in_flight.popleft()()
        if ahead.error is not None:
            raise ahead.error

    def _start(self, prepared: Sequence[Prepared]) -> Callable[[], list[Outcome]]:
        """Start the inputs that have an image; the returned call waits and returns one outcome for each of them."""
        images = [p.image for p in prepared if p.image is not None]
        return self._guarded.start(images) if images else list

    def _begin(self, prepared: Sequence[Prepared]) -> Callable[[], list[Verdict]]:
        """Start a batch; the returned call waits and returns one verdict per input, in order."""
        wait = self._start(prepared)

        def verdicts() -> list[Verdict]:
            outcomes = iter(wait())
            return [self._unclassified(p) if p.image is None else self._verdict(p, next(outcomes)) for p in prepared]

        return verdicts

    def _unclassified(self, prepared: Prepared) -> Verdict:
        judge = self._guarded.variant.judge
        origin, notes = judge.origin, (*prepared.notes, *judge.notes)
        where = (origin.backend, origin.precision, origin.bundle)
        if prepared.error is not None:
            return Verdict.failed(
                prepared.path, prepared.error, origin.backend, precision=origin.precision, bundle=origin.bundle
            )
        return Verdict(
            prepared.path, "abstain", "abstain", 0.0, math.nan, {}, {}, "", notes, *where, prepared.latency_ms
        )

    def _verdict(self, prepared: Prepared, outcome: Outcome) -> Verdict:
        begin = time.perf_counter()
        stages = {**prepared.latency_ms, **outcome.latency_ms}
        subject = Subject(
            path=prepared.path, face=prepared.face, notes=(*outcome.notes, *prepared.notes), latency_ms=stages
        )
        result, row = outcome.result, outcome.row
        density = float(result.log_density[row])
        verdict = outcome.variant.judge.verdict(
            subject, result.outputs, row, log_density=density, faults=outcome.faults
        )
        stages["decision"] += 1e3 * (time.perf_counter() - begin)
        return verdict
