"""The finite check: catch invalid outputs, retry the image once on a safer variant, and count both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from ..core.errors import LeakRTError
from .forked import ForkLock
from .loaded import LoadedVariant
from .pipeline import Input, PipelineResult


@dataclass(frozen=True, kw_only=True)
class Counters:
    """Counts of images that a Detector has run."""

    images: int = 0
    caught: int = 0  # outputs that were not finite or out of bounds
    retried: int = 0  # of `caught`, run again on the next safer variant
    rescued: int = 0  # of `retried`, valid the second time; the others of `caught` abstain


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The valid outputs of one image, or the reasons why there are none."""

    variant: LoadedVariant  # that computed `result`
    result: PipelineResult
    row: int  # of this image in `result`
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # stage to milliseconds, summed over attempts
    faults: tuple[str, ...] = ()  # one per failed attempt; empty if the outputs are valid
    notes: tuple[str, ...] = ()  # what was caught before a safer variant succeeded


class GuardedVariant:
    """A variant that falls back to a safer one, image by image. Thread-safe."""

    def __init__(self, variant: LoadedVariant, load_safer: Callable[[], LoadedVariant | None]) -> None:
        """`load_safer` returns the next safer variant or None. It is called at the first fault."""
        self.variant = variant
        self._counts = asdict(Counters())
        self._lock = ForkLock()  # guards the counters
        self._loading = threading.Lock()  # guards loading the safer variant
        self._load_safer = load_safer
        self._safer: LoadedVariant | None = None
        self._load_attempted = False

    @property
    def counters(self) -> Counters:
        """The counts so far."""
        with self._lock:
            return Counters(**self._counts)

    def start(self, images: Sequence[Input]) -> Callable[[], list[Outcome]]:
        """Start results of `Pipeline.prepare`; the returned call waits and returns one outcome per image.

        Both calls raise ModelError, BackendError.
        """
        wait = self.variant.pipeline.start(images)
        return lambda: self._outcomes(images, wait())

    def close(self) -> None:
        """Free the device memory of both variants. Idempotent."""
        with self._loading:
            self.variant.pipeline.close()
            if self._safer is not None:
                self._safer.pipeline.close()

    def _outcomes(self, images: Sequence[Input], result: PipelineResult) -> list[Outcome]:
        outcomes = [
            self._retry(images[row], result, row, fault=fault)
            if fault
            else Outcome(variant=self.variant, result=result, row=row, latency_ms=result.latency_ms)
            for row, fault in enumerate(result.faults)
        ]
        self._count("images", more=len(images))
        return outcomes

    def _retry(self, image: Input, result: PipelineResult, row: int, *, fault: str) -> Outcome:
        fault = f"{self.variant.precision}: {fault}"
        failed = Outcome(variant=self.variant, result=result, row=row, latency_ms=result.latency_ms, faults=(fault,))
        self._count("caught")
        try:
            safer = self._safer_variant()
            if safer is None:
                return failed
            self._count("retried")
            again = safer.pipeline.run([image])
        except LeakRTError as error:  # raising would lose the verdicts on the other images of the batch
            return replace(failed, faults=(fault, f"the next safer variant failed: {error}"))
        stages = {stage: result.latency_ms.get(stage, 0.0) + ms for stage, ms in again.latency_ms.items()}
        if again.faults[0]:
            return Outcome(
                variant=safer,
                result=again,
                row=0,
                latency_ms=stages,
                faults=(fault, f"{safer.precision}: {again.faults[0]}"),
            )
        self._count("rescued")
        return Outcome(
            variant=safer,
            result=again,
            row=0,
            latency_ms=stages,
            faults=(),
            notes=(f"{fault}; classified at {safer.precision} instead",),
        )

    def _safer_variant(self) -> LoadedVariant | None:
        """Return the safer variant; load it on the first call. A failed load is tried again on the next call."""
        with self._loading:
            if not self._load_attempted:
                self._safer = self._load_safer()
                self._load_attempted = True
            return self._safer

    def _count(self, name: str, *, more: int = 1) -> None:
        with self._lock:
            self._counts[name] += more
