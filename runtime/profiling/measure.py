"""Timings of a detector: calls of `check_batch` one after another, on one stream or several side by side."""

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

# names of stages here for those in Verdict.latency_ms; others keep theirs
_STAGES = {"preprocess": "preprocess", "vae": "vae_encoder", "noising": "noising", "leak": "leak_encoder"}
_WARM_CALLS, _WARM_SECONDS = 10, 1.0  # warm-up ends with the first of them
MIN_CALLS = 3  # of each stream, however long they take
_POLL = 0.5  # seconds between two looks at how far the streams are


@dataclass(frozen=True, kw_only=True)
class BatchProfile:
    """A batch size on one detector or several: milliseconds of a whole batch.

    `outside` is what a call takes beyond the sum of its stages.
    """

    batch: int
    stages: dict[str, Summary]
    end_to_end: Summary
    outside: Summary
    images_per_second: float  # of all streams together
    seconds: float  # that the calls took


@dataclass(kw_only=True)
class Samples:
    """Timings of one stream, in milliseconds, a call each."""

    end_to_end: list[float] = field(default_factory=list)
    outside: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=dict)
    begin: float = 0.0  # of the first call, and the end of the last, in seconds of time.perf_counter
    end: float = 0.0

    def call(self, detector: Detector, frames: Sequence[Frame]) -> None:
        """One call of `check_batch`, and what it says of its stages."""
        begin = time.perf_counter()
        verdicts = detector.check_batch(frames)
        self.end = time.perf_counter()
        self.begin = self.begin or begin
        elapsed = 1e3 * (self.end - begin)
        sums = dict.fromkeys(verdicts[0].latency_ms, 0.0)
        for verdict in verdicts:  # each has its image's share
            for stage, share in verdict.latency_ms.items():
                sums[stage] += share
        for stage, spent in sums.items():
            self.stages.setdefault(_STAGES.get(stage, stage), []).append(spent)
        self.end_to_end.append(elapsed)
        self.outside.append(elapsed - sum(sums.values()))


def measure(
    detectors: Sequence[Detector], frames: Sequence[Frame], seconds: float, *, progress: Progress = silent
) -> BatchProfile:
    """Time batches of `frames` for `seconds`, each detector on a thread of its own, after a warm-up of each.

    At least MIN_CALLS calls a stream are made. Raises what `Detector.check_batch` raises.
    """
    stop, ready = threading.Event(), threading.Barrier(len(detectors))
    everyone = [Samples() for _ in detectors]
    with ThreadPoolExecutor(len(detectors), thread_name_prefix="leakrt-profile") as pool:
        try:
            streams = [
                pool.submit(_stream, detector, frames, seconds, samples=samples, ready=ready, stop=stop)
                for detector, samples in zip(detectors, everyone, strict=True)
            ]
            _watch(streams, everyone, len(frames), seconds=seconds, progress=progress)
        finally:
            stop.set()
            ready.abort()
    _raise_first(streams)
    return _profile(everyone, len(frames))


def _stream(
    detector: Detector,
    frames: Sequence[Frame],
    seconds: float,
    *,
    samples: Samples,
    ready: threading.Barrier,
    stop: threading.Event,
) -> None:
    """Fill `samples`, from when every stream is warm. One that fails ends the others."""
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
    streams: Sequence[Future[None]], everyone: Sequence[Samples], batch: int, *, seconds: float, progress: Progress
) -> None:
    """Tell how far the streams are, until they are done or have failed."""
    unfinished = True
    while unfinished:
        unfinished = bool(wait(streams, _POLL).not_done)
        done = batch * sum(len(samples.end_to_end) for samples in everyone)
        spent = everyone[0].end - everyone[0].begin
        expected = round(done * seconds / spent) if spent > 0 else 0
        progress(f"batch {batch}", done, max(done + 1, expected) if unfinished else done)


def _raise_first(streams: Sequence[Future[None]]) -> None:
    """Raise what made a stream fail, not that the others were stopped by it."""
    errors = [error for error in (stream.exception() for stream in streams) if error is not None]
    for error in sorted(errors, key=lambda e: isinstance(e, threading.BrokenBarrierError)):
        raise error


def _profile(everyone: Sequence[Samples], batch: int) -> BatchProfile:
    names = dict.fromkeys(name for samples in everyone for name in samples.stages)
    end_to_end = [x for samples in everyone for x in samples.end_to_end]
    seconds = max(samples.end for samples in everyone) - min(samples.begin for samples in everyone)
    return BatchProfile(
        batch=batch,
        stages={n: Summary.of([x for samples in everyone for x in samples.stages.get(n, ())]) for n in names},
        end_to_end=Summary.of(end_to_end),
        outside=Summary.of([x for samples in everyone for x in samples.outside]),
        images_per_second=batch * len(end_to_end) / seconds,
        seconds=seconds,
    )
