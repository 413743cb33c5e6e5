"""Detector: a bundle loaded on a backend."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

from ..core.bundle import PRECISIONS, Bundle
from ..core.errors import ImageError, UsageError
from ..core.exemplars import Exemplars
from ..core.images import MAX_PIXELS
from ..core.judging import Judge, Origin, Subject
from ..core.outputs import LeakOutputs
from ..core.verdict import Verdict
from .backends import registry
from .backends.base import Backend, Description, Variant
from .faces import FaceFinder
from .golden import check_golden
from .pipeline import Pipeline, PipelineResult
from .prepare import Crop, Frame, Image, Prepared, Preparer, unreadable
from .threads import resolve_threads


@dataclass(frozen=True)
class Evidence:
    """What the network was given and what it gave."""

    pixels: Frame  # [H, W, 3] BGR: the face or image that was judged
    outputs: LeakOutputs  # one row each, averaged over draws


@dataclass(frozen=True)
class Analysis:
    """A verdict with what it rests on; `evidence` is None where nothing was run."""

    verdict: Verdict
    evidence: Evidence | None


class Detector:
    """A bundle loaded on a backend: images in, verdicts out.

    The same image gives the same scores on every call, in every batch and with every number of threads. Methods may
    be called from several threads; one image at a time is computed.
    """

    def __init__(
        self, bundle: Bundle, backend: Backend, threads: int, faces: FaceFinder | None, max_pixels: int
    ) -> None:
        """See `load`. Runs the golden image; raises ParityError, BundleError."""
        self.spec, self.bundle = bundle.spec, bundle
        self._backend = backend
        self.support = bundle.support(backend.precision)
        origin = Origin(backend.name, backend.precision, bundle.identity)
        self._judge = Judge(bundle.spec, bundle.decisions[backend.precision], self.support, origin)
        self._pipeline = Pipeline(bundle.spec, self.support, backend, threads)
        self._preparer = Preparer(self._pipeline.image_buffer, self._pipeline.preprocess, faces, max_pixels)
        self._lock = threading.Lock()
        check_golden(bundle, self._pipeline, backend)

    @classmethod
    def load(
        cls,
        path: str | Path,
        backend: str = "auto",
        precision: str = "auto",
        threads: int = 0,
        faces: str | Path = "",
        max_pixels: int = MAX_PIXELS,
    ) -> Detector:
        """Load a bundle, a folder or a zip, and run its golden image.

        `backend` auto: the first in a fixed order that can run here. `precision` auto: the first of fp32, fp16,
        int8 that the bundle has. `threads` 0: one for each core. `faces`: a YuNet ONNX file; with it faces are
        judged, else whole images. `max_pixels`: larger image files are refused unread.

        Raises BundleError, ModelError, BackendError, ParityError, UsageError.
        """
        threads = resolve_threads(threads)
        bundle = Bundle(path)
        chosen = _choose_precision(precision, bundle)
        graphs = bundle.graph("vae_encoder", chosen), bundle.graph("leak_encoder", chosen)
        loaded = registry.load(backend, Variant(bundle.spec, chosen, *graphs), threads)
        return cls(bundle, loaded, threads, FaceFinder(faces) if faces else None, max_pixels)

    def describe(self) -> Description:
        """The backend that runs, its version, device and threads."""
        return self._backend.describe()

    def check(self, image: Image) -> Verdict:
        """The verdict on an image file or frame uint8 [H, W, 3] BGR: with `faces` on its largest face.

        Raises ImageError for an image that can't be judged, ModelError.
        """
        return self.check_batch([image])[0]

    def check_batch(self, images: Sequence[Image]) -> list[Verdict]:
        """One verdict for each image, in order. Raises like `check`, before anything is computed."""
        prepared = [self._preparer.preprocess(self._preparer.crops(image)[0]) for image in images]
        return self._judge_all(prepared)

    def check_faces(self, image: Image) -> list[Verdict]:
        """One verdict for each face of an image, the largest first. Raises like `check`."""
        return self._judge_all([self._preparer.preprocess(crop) for crop in self._preparer.crops(image)])

    def check_stream(self, images: Iterable[Image], batch: int = 8) -> Iterator[Verdict]:
        """Verdicts in the order of the images, one for each face; an unreadable image gives one with `error` set.

        The next images are read, cropped and preprocessed in the background, at most 2 x `batch` ahead; of decoded
        images only one is held at a time. Raises UsageError for a batch under 1, ModelError.
        """
        if batch < 1:
            raise UsageError(f"a batch of {batch}; at least 1 is needed")
        return self._stream(iter(images), batch)

    def analyse(self, image: Image) -> list[Analysis]:
        """One analysis for each face, as `check_stream` gives verdicts: an unreadable image gives one with an error."""
        try:
            return [self._analyse(crop) for crop in self._preparer.crops(image)]
        except ImageError as error:
            return [Analysis(self._unjudged(unreadable(image, error)), None)]

    def exemplars(self) -> Exemplars:
        """The training images nearest to each prototype; none when the bundle holds none. Raises BundleError."""
        if not self.bundle.has("exemplars.npz"):
            return Exemplars({})
        return Exemplars.from_bytes(self.bundle.read("exemplars.npz"))

    def _analyse(self, crop: Crop) -> Analysis:
        prepared = self._preparer.preprocess(crop)
        if crop.pixels is None:
            return Analysis(self._unjudged(prepared), None)
        result = self._run([prepared])
        return Analysis(self._verdict(prepared, result, 0), Evidence(crop.pixels, result.outputs))

    def _stream(self, images: Iterator[Image], batch: int) -> Iterator[Verdict]:
        with ThreadPoolExecutor(1, thread_name_prefix="leakrt-prepare") as pool:
            ahead: deque[Future[list[Prepared]]] = deque()
            try:
                ahead.extend(pool.submit(self._preparer.prepare, image) for image in islice(images, 2 * batch))
                while ahead:
                    group = [ahead.popleft().result() for _ in range(min(batch, len(ahead)))]
                    ahead.extend(pool.submit(self._preparer.prepare, image) for image in islice(images, len(group)))
                    yield from self._judge_all([prepared for each in group for prepared in each])
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, prepared: Sequence[Prepared]) -> PipelineResult:
        with self._lock:
            return self._pipeline.run([p.image for p in prepared if p.image is not None])

    def _judge_all(self, prepared: Sequence[Prepared]) -> list[Verdict]:
        result = self._run(prepared) if any(p.image is not None for p in prepared) else None
        row = count()
        return [
            self._unjudged(p) if result is None or p.image is None else self._verdict(p, result, next(row))
            for p in prepared
        ]

    def _unjudged(self, prepared: Prepared) -> Verdict:
        where = (self._backend.name, self._backend.precision, self.bundle.identity)
        if prepared.error is not None:
            return Verdict.failed(prepared.path, prepared.error, *where)
        return Verdict(
            prepared.path, "abstain", "abstain", 0.0, math.nan, {}, {}, "", prepared.notes, *where, prepared.latency_ms
        )

    def _verdict(self, prepared: Prepared, result: PipelineResult, row: int) -> Verdict:
        begin = time.perf_counter()
        subject = Subject(prepared.path, prepared.face, prepared.notes)
        verdict = self._judge.verdict(subject, result.outputs, row, float(result.log_density[row]))
        stages = {**prepared.latency_ms, **result.latency_ms}
        stages["decision"] += 1e3 * (time.perf_counter() - begin)
        return replace(verdict, latency_ms=stages)


def _choose_precision(precision: str, bundle: Bundle) -> str:
    if precision != "auto" and precision not in PRECISIONS:
        raise UsageError(f"no precision {precision!r}; choose one of: auto, {', '.join(PRECISIONS)}")
    return bundle.precisions[0] if precision == "auto" else precision
