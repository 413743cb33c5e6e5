"""Profile a bundle: timings per batch size, cold start, memory, and the state of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core.errors import UsageError
from ...core.images import read_image
from ...core.progress import Progress, silent
from ..backends.base import Description
from ..detector import Detector
from ..machine import busy_elsewhere, cpu_name, cpu_times, host_memory, load_average
from ..prepare import Frame
from ..threads import resolve_threads
from .cold_start import ColdStart, measure_cold_start, request_for
from .measure import BatchProfile, measure
from .summary import ENOUGH_FOR_P99

_MAX_BATCH, _MAX_STREAMS, _MAX_SECONDS, _MAX_COLD_STARTS = 1024, 64, 3600.0, 100
_BUSY = 0.1  # share of the CPUs used by other processes above which a note is added


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a profile. Raises UsageError for an invalid value."""

    backend: str = "auto"
    precision: str = "auto"
    batches: tuple[int, ...] = (1, 4, 16)
    streams: int = 1  # concurrent detectors, each with its own thread
    seconds: float = 5.0  # per batch size
    threads: int = 0  # CPU threads per stream; 0: the cores divided by the streams
    image: Path | None = None  # None: the bundle's golden image
    cold_starts: int = 3  # new processes; 0: none
    device: int = 0  # index of the GPU, for a backend that runs on one

    def __post_init__(self) -> None:
        if not self.batches or len(set(self.batches)) != len(self.batches):
            raise UsageError("invalid batch sizes: need at least one, without duplicates")
        for batch in self.batches:
            _check_range("batch size", batch, 1, high=_MAX_BATCH)
        _check_range("number of streams", self.streams, 1, high=_MAX_STREAMS)
        _check_range("number of cold starts", self.cold_starts, 0, high=_MAX_COLD_STARTS)
        if not 0 < self.seconds <= _MAX_SECONDS:
            raise UsageError(f"invalid seconds {self.seconds:g}: must be more than 0 and at most {_MAX_SECONDS:g}")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine and its load; None for values that the system does not report."""

    cpu: str
    cores: int  # default number of threads of a detector
    load_before: float | None  # load average of the minute before the measurement
    load_after: float | None
    busy_elsewhere: float | None  # share of the CPUs, 0 to 1, that other processes used during the calls


@dataclass(frozen=True)
class MemoryUse:
    """Bytes at the end, with every stream loaded; None if unknown, or if there is no separate device."""

    host_resident: int | None
    host_peak: int | None
    device: int | None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The results of a profile. Times are milliseconds per batch."""

    bundle: str  # Bundle.identity
    runs: Description
    streams: int
    image: tuple[int, int]  # width and height of the frame, pixels
    batches: tuple[BatchProfile, ...]
    cold_start: ColdStart | None
    memory: MemoryUse
    machine: Machine

    def notes(self) -> tuple[str, ...]:
        """Return warnings about the reliability of the results."""
        found = [
            f"batch {b.batch}: p99 is the maximum, because {b.end_to_end.samples} calls are fewer than "
            f"{ENOUGH_FOR_P99}; raise --seconds"
            for b in self.batches
            if not b.end_to_end.enough_for_p99
        ]
        if self.machine.busy_elsewhere is not None and self.machine.busy_elsewhere > _BUSY:
            share = f"{100 * self.machine.busy_elsewhere:.0f} %"
            found.append(
                f"other processes used {share} of the CPUs during the measurement; repeat it on an idle machine"
            )
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        """Return the object of `leakrt profile --json`: the first batch size at the top level, all in `batches`."""
        batches = [_batch_json(batch) for batch in self.batches]
        return {
            "backend": self.runs.backend,
            "version": self.runs.version,
            "device": self.runs.device,
            "precision": self.runs.precision,
            "threads": self.runs.threads,
            "streams": self.streams,
            "bundle": self.bundle,
            "image": {"width": self.image[0], "height": self.image[1]},
            **batches[0],
            "batches": batches,
            "cold_start": None if self.cold_start is None else self.cold_start.to_json(),
            "memory_bytes": asdict(self.memory),
            "machine": asdict(self.machine),
            "notes": list(self.notes()),
        }


def profile_bundle(path: Path, options: Options, *, progress: Progress = silent) -> Profile:
    """Profile the bundle at `path` on this machine.

    Raises UsageError, ImageError for an image that can't be read, and the errors of `Detector.load` and `check`.
    """
    threads = _threads(options)
    frame = None if options.image is None else read_image(options.image).pixels  # fail before a load that takes seconds
    progress("load", 0, options.streams)
    detectors = [
        Detector.load(
            path, backend=options.backend, precision=options.precision, threads=threads, device=options.device
        )
    ]
    runs, cold_start = detectors[0].describe(), None
    for done in range(1, options.streams):
        progress("load", done, options.streams)
        # Named like the first one's: `fastest` could choose another backend this time.
        detectors.append(
            Detector.load(path, backend=runs.backend, precision=runs.precision, threads=threads, device=options.device)
        )
    load_before = load_average()
    if options.cold_starts:
        request = request_for(
            path, runs.backend, runs.precision, threads=threads, image=options.image, device=options.device
        )
        cold_start = measure_cold_start(request, options.cold_starts, progress=progress)
    shown = detectors[0].bundle.golden().image if frame is None else frame
    before = cpu_times()
    batches = _measure_all(detectors, shown, options, progress=progress)
    after = cpu_times()
    host, runs = host_memory(), detectors[0].describe()  # again, because device_bytes is known only after a run
    return Profile(
        bundle=detectors[0].bundle.identity,
        runs=runs,
        streams=options.streams,
        image=(shown.shape[1], shown.shape[0]),
        batches=batches,
        cold_start=cold_start,
        memory=MemoryUse(host.resident, host.peak, runs.device_bytes),
        machine=Machine(
            cpu=cpu_name(),
            cores=resolve_threads(0),
            load_before=load_before,
            load_after=load_average(),
            busy_elsewhere=busy_elsewhere(before, after),
        ),
    )


def _measure_all(
    detectors: Sequence[Detector], frame: Frame, options: Options, *, progress: Progress
) -> tuple[BatchProfile, ...]:
    return tuple(measure(detectors, [frame] * batch, options.seconds, progress=progress) for batch in options.batches)


def _threads(options: Options) -> int:
    if options.threads or options.streams == 1:
        return resolve_threads(options.threads)
    return max(1, resolve_threads(0) // options.streams)


def _batch_json(profile: BatchProfile) -> dict[str, Any]:
    return {
        "batch": profile.batch,
        "stages": {name: stage.to_json() for name, stage in profile.stages.items()},
        "end_to_end": profile.end_to_end.to_json(),
        "outside_stages": profile.outside.to_json(),
        "images_per_second": profile.images_per_second,
        "seconds": profile.seconds,
        "enough_for_p99": profile.end_to_end.enough_for_p99,
    }


def _check_range(what: str, value: int, low: int, *, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"invalid {what} {value}: must be {low} to {high}")
