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
    """What the network was given and what it gave."""

    pixels: Frame  # [H, W, 3] BGR: the face or image that was judged
    outputs: LeakOutputs  # one row each, averaged over draws
    support: Support  # of the precision that gave them


@dataclass(frozen=True)
class Analysis:
    """A verdict with what it rests on; `evidence` is None where nothing was run."""

    verdict: Verdict
    evidence: Evidence | None


class Detector:
    """A bundle loaded on a backend: images in, verdicts out.

    On a CPU the same image gives the same scores on every call, in every batch and with every number of threads.
    Methods may be called from several threads: on a GPU their batches overlap, else one image at a time is computed.
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
        """Load a bundle, a folder or a zip, and run its golden image.

        `backend` auto: the first in a fixed order that can run here and that the bundle was measured on; fastest: the
        quickest of those, raced here. `precision` auto: the first of int8, fp16, fp32 that the bundle has, that passed
        its gate on this backend and was not slower than fp32 there; a named one must have passed its gate. `threads`
        0: one for each core. `faces`: a YuNet ONNX file; with it faces are judged, else whole images. `max_pixels`:
        larger image files are refused unread. `device`: number of the GPU, for a backend that runs on one.

        Raises BundleError, ModelError, BackendError, EngineError (no engine; it names the command that builds it),
        ParityError, UsageError.
        """
        threads = resolve_threads(threads)
        bundle = Bundle(path)
        choices = {choice.backend: choice for choice in choose(bundle, backend, precision)}
        entrants = [
            LoadedVariant.load(bundle, c.precision, c.backend, threads=threads, device=device) for c in choices.values()
        ]
        taken = quickest(bundle, entrants)
        name = taken.backend.name
        safer = safer_precision(bundle, choices[name])

        def load_safer() -> LoadedVariant | None:
            return LoadedVariant.load(bundle, safer, name, threads=threads, device=device) if safer else None

        variant = GuardedVariant(taken, load_safer)
        return cls(bundle, variant, FaceFinder(faces) if faces is not None else None, max_pixels=max_pixels)

    @property
    def counters(self) -> Counters:
        """How many images were run, and how many outputs were caught, retried and rescued so far."""
        return self._guarded.counters

    def close(self) -> None:
        """Free what is held on a GPU, after what is on its way; the detector can't be used again. Without it that
        happens when the detector is forgotten. On a CPU, and a second time, it is nothing."""
        self._guarded.close()

    def describe(self) -> Description:
        """The backend that runs, its version, device and threads."""
        return self._guarded.variant.backend.describe()

    def check(self, image: Image) -> Verdict:
        """The verdict on one image, with `faces` on its largest face.

        An image is the path of a file, an array uint8 [H, W, 3] in BGR order, or a PIL image. Raises ImageError for an
        image that can't be judged, UsageError for any other object, ModelError, BackendError.
        """
        return self.check_batch([image])[0]

    def check_batch(self, images: Iterable[Image]) -> list[Verdict]:
        """One verdict for each image, in order. Raises like `check`, before anything is computed.

        `images` may be a generator that fills the same array again for each image.
        """
        refuse_single(images, "check_batch")
        own = not isinstance(images, (list, tuple))
        prepared = [self._preparer.preprocess(self._preparer.crops(image)[0], own=own) for image in images]
        return self._begin(prepared)()

    def check_faces(self, image: Image) -> list[Verdict]:
        """One verdict for each face of an image, the largest first. Raises like `check`."""
        return self._begin([self._preparer.preprocess(crop, own=False) for crop in self._preparer.crops(image)])()

    def check_stream(self, images: Iterable[Image], *, batch: int = 8) -> Iterator[Verdict]:
        """Verdicts in the order of the images, one for each face. One that can't be judged gives an `error`.

        A thread of its own reads, crops and preprocesses the images one after another, at most 2 x `batch` ahead. A
        generator runs in that thread; it may fill the same array again for each image. A GPU preprocesses itself: the
        crops are copied, and the next batches begin before the verdicts of one are given. An exception of `images` is
        raised after the verdicts on the images before it. Closing the stream closes a generator.

        A list or tuple is taken in full batches. Any other source gives up to `batch` of the images that are ready, so
        a verdict comes at the latest after the batch under way and its own; while the source is slower than the model,
        that is one image. A source that is faster is read ahead, and its verdicts come up to 2 x `batch` images later.

        Raises UsageError for a batch under 1 or a single image, ModelError, BackendError.
        """
        if not isinstance(batch, int) or batch < 1:
            raise UsageError(f"a batch of {batch!r}; a whole number of at least 1 is needed")
        refuse_single(images, "check_stream")
        return self._stream(iter(images), batch, full=isinstance(images, (list, tuple, np.ndarray)))

    def analyse(self, image: Image) -> list[Analysis]:
        """One analysis for each face, as `check_stream` gives verdicts: an unreadable image gives one with an error."""
        try:
            return [self._analyse(crop) for crop in self._preparer.crops(image)]
        except (ImageError, UsageError) as error:
            return [Analysis(self._unjudged(unreadable(image, error)), None)]

    def exemplars(self) -> Exemplars:
        """The training images nearest to each prototype; none when the bundle holds none. Raises BundleError."""
        if not self.bundle.has("exemplars.npz"):
            return Exemplars({})
        return Exemplars.from_bytes(self.bundle.read("exemplars.npz"))

    def _analyse(self, crop: Crop) -> Analysis:
        prepared = self._preparer.preprocess(crop, own=False)
        if crop.pixels is None:
            return Analysis(self._unjudged(prepared), None)
        (outcome,) = self._start([prepared])()
        evidence = Evidence(crop.pixels.copy(), outcome.result.outputs, outcome.variant.support)
        return Analysis(self._verdict(prepared, outcome), evidence)

    def _stream(self, images: Iterator[Image], batch: int, *, full: bool) -> Iterator[Verdict]:
        most = batch if full else self._together(batch)
        begun: deque[Callable[[], list[Verdict]]] = deque()
        with ReadAhead(images, self._preparer.prepare, 2 * batch) as ahead:
            while begun or not ahead.ended:
                if len(begun) < self._ahead:
                    group = ahead.take(most, most if full else 0 if begun else 1)
                    if group:
                        begun.append(self._begin([prepared for each in group for prepared in each]))
                        continue
                if begun:
                    yield from begun.popleft()()
        if ahead.error is not None:
            raise ahead.error

    def _start(self, prepared: Sequence[Prepared]) -> Callable[[], list[Outcome]]:
        """Begin with those that have an image; the call returned gives an outcome for each of them."""
        images = [p.image for p in prepared if p.image is not None]
        return self._guarded.start(images) if images else list

    def _begin(self, prepared: Sequence[Prepared]) -> Callable[[], list[Verdict]]:
        """Begin with a batch; the call returned gives a verdict for each, in order."""
        wait = self._start(prepared)

        def verdicts() -> list[Verdict]:
            outcomes = iter(wait())
            return [self._unjudged(p) if p.image is None else self._verdict(p, next(outcomes)) for p in prepared]

        return verdicts

    def _unjudged(self, prepared: Prepared) -> Verdict:
        origin = self._guarded.variant.judge.origin
        where = (origin.backend, origin.precision, origin.bundle)
        if prepared.error is not None:
            return Verdict.failed(
                prepared.path, prepared.error, origin.backend, precision=origin.precision, bundle=origin.bundle
            )
        return Verdict(
            prepared.path, "abstain", "abstain", 0.0, math.nan, {}, {}, "", prepared.notes, *where, prepared.latency_ms
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
