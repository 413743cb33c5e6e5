"""Time consecutive calls of `check_batch`, in one stream or in several concurrent ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from ...core.progress import Progress, silent
from ..detector import Detector
from ..prepare import Frame
from .summary import Summary

# stage in Verdict.latency_ms to its name here; other names are kept
_STAGES = {"preprocess": "preprocess", "vae": "vae_encoder", "noising": "noising", "leak": "leak_encoder"}
_WARM_CALLS, _WARM_SECONDS = 10, 1.0  # warm-up ends at the first limit reached
MIN_CALLS = 3  # per stream, however long they take
_POLL = 0.5  # seconds between two progress reports


@dataclass(frozen=True, kw_only=True)
class BatchProfile:
    """Timings of one batch size over all streams, in milliseconds per batch.

    `outside` is the time of a call minus the sum of its stages.
    """

    batch: int
    stages: dict[str, Summary]
    end_to_end: Summary
    outside: Summary
    images_per_second: float  # over all streams
    seconds: float  # from the first call to the end of the last


@dataclass(kw_only=True)
class Samples:
    """Timings of one stream, in milliseconds, one per call."""

    end_to_end: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    begin: float = 0.0  # start of the first call; with `end`, that of the last: seconds of time.perf_counter
    end: float = 0.0

    def call(self, detector: Detector, frames: Sequence[Frame]) -> None:
        """Call `check_batch` once and record its time and the time of its stages."""
        begin = time.perf_counter()
        verdicts = detector.check_batch(frames)
        self.end = time.perf_counter()
        self.begin = self.begin or begin
        elapsed = 1e3 * (self.end - begin)
        sums = dict.fromkeys(verdicts[0].latency_ms, 0.0)
        for verdict in verdicts:  # each verdict has its image's share
            for stage, share in verdict.latency_ms.items():
                sums[stage] += share
        for stage, spent in sums.items():
            self.stages.setdefault(_STAGES.get(stage, stage), []).append(spent)
        self.end_to_end.append(elapsed)
        self.outside.append(elapsed - sum(sums.values()))


def measure(
    detectors: Sequence[Detector], frames: Sequence[Frame], seconds: float, *, progress: Progress = silent
) -> BatchProfile:
    """Time batches of `frames` for `seconds` after a warm-up. Each detector is a stream with its own thread.

    Makes at least MIN_CALLS calls per stream. Raises the errors of `Detector.check_batch`.
    """
    stop, ready = threading.Event(), threading.Barrier(len(detectors))
    all_samples = [Samples() for _ in detectors]
    with ThreadPoolExecutor(len(detectors), thread_name_prefix="leakrt-profile") as pool:
        try:
            streams = [
                pool.submit(_stream, detector, frames, seconds, samples=samples, ready=ready, stop=stop)
                for detector, samples in zip(detectors, all_samples, strict=True)
            ]
            _watch(streams, all_samples, len(frames), seconds=seconds, progress=progress)
        finally:
            stop.set()
            ready.abort()
    _raise_first(streams)
    return _profile(all_samples, len(frames))


def _stream(
    detector: Detector,
    frames: Sequence[Frame],
    seconds: float,
    *,
    samples: Samples,
    ready: threading.Barrier,
    stop: threading.Event,
) -> None:
    """Fill `samples` once every stream is warm. A stream that fails stops the others."""
    try:
        _warm(detector, frames, stop)
        ready.wait()
        while not stop.is_set() and (len(samples.end_to_end) < MIN_CALLS or samples.end - samples.begin < seconds):
            samples.call(detector, frames)
    except BaseException:
        stop.set()
        ready.abort()
        raise


def _warm(detector: Detector, frames: Sequence[Frame], stop: threading.Event) -> None:
    begin = time.perf_counter()
    for _ in range(_WARM_CALLS):
        detector.check_batch(frames)
        if stop.is_set() or time.perf_counter() - begin > _WARM_SECONDS:
            break


def _watch(
    streams: Sequence[Future[None]], all_samples: Sequence[Samples], batch: int, *, seconds: float, progress: Progress
) -> None:
    """Report progress until the streams complete or fail."""
    unfinished = True
    while unfinished:
        unfinished = bool(wait(streams, _POLL).not_done)
        done = batch * sum(len(samples.end_to_end) for samples in all_samples)
        spent = all_samples[0].end - all_samples[0].begin
        expected = round(done * seconds / spent) if spent > 0 else 0
        progress(f"batch {batch}", done, max(done + 1, expected) if unfinished else done)


def _raise_first(streams: Sequence[Future[None]]) -> None:
    """Raise the error of the stream that failed, not the BrokenBarrierError of the streams that it stopped."""
    errors = [error for error in (stream.exception() for stream in streams) if error is not None]
    for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error


def _profile(all_samples: Sequence[Samples], batch: int) -> BatchProfile:
    names = dict.fromkeys(name for samples in all_samples for name in samples.stages)
    end_to_end = [x for samples in all_samples for x in samples.end_to_end]
    seconds = max(samples.end for samples in all_samples) - min(samples.begin for samples in all_samples)
    return BatchProfile(
        batch=batch,
        stages={n: Summary.of([x for samples in all_samples for x in samples.stages.get(n, ())]) for n in names},
        end_to_end=Summary.of(end_to_end),
        outside=Summary.of([x for samples in all_samples for x in samples.outside]),
        images_per_second=batch * len(end_to_end) / seconds,
        seconds=seconds,
    )
