"""The finite check: outputs that can't be believed are caught, retried once on a safer variant, and counted."""

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
    """What became of the images that a Detector has run."""

    images: int = 0
    caught: int = 0  # outputs that were not finite, or absurd
    retried: int = 0  # of those, run again on the next safer variant
    rescued: int = 0  # of those, believed the second time; the others of `caught` abstain


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is believed of one image, or why nothing is."""

    variant: LoadedVariant  # whose outputs they are
    result: PipelineResult
    row: int  # of the result
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # stage to milliseconds, all attempts together
    faults: tuple[str, ...] = ()  # why nothing is believed, one for each attempt; empty: it is
    notes: tuple[str, ...] = ()  # what was caught before a safer variant gave what is believed


class GuardedVariant:
    """A variant that falls back to a safer one, image by image. Safe from any thread."""

    def __init__(self, variant: LoadedVariant, load_safer: Callable[[], LoadedVariant | None]) -> None:
        """`load_safer` gives the next safer variant, or None; it is called at the first fault."""
        self.variant = variant
        self._counts = asdict(Counters())
        self._lock = ForkLock()  # of the counters
        self._loading = threading.Lock()  # of the safer variant
        self._load_safer = load_safer
        self._safer: LoadedVariant | None = None
        self._asked = False

    @property
    def counters(self) -> Counters:
        """What became of the images so far."""
        with self._lock:
            return Counters(**self._counts)

    def start(self, images: Sequence[Input]) -> Callable[[], list[Outcome]]:
        """Begin with what the pipeline prepared; the call returned gives one outcome for each. Both raise ModelError,
        BackendError."""
        wait = self.variant.pipeline.start(images)
        return lambda: self._outcomes(images, wait())

    def close(self) -> None:
        """Free what both variants hold on a device; a second time is nothing."""
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
        said = f"{self.variant.precision}: {fault}"
        refused = Outcome(variant=self.variant, result=result, row=row, latency_ms=result.latency_ms, faults=(said,))
        self._count("caught")
        try:
            safer = self._safer_variant()
            if safer is None:
                return refused
            self._count("retried")
            again = safer.pipeline.run([image])
        except LeakRTError as error:  # a fault never becomes an exception that hides the others' verdicts
            return replace(refused, faults=(said, f"the next safer variant doesn't run: {error}"))
        stages = {stage: result.latency_ms.get(stage, 0.0) + ms for stage, ms in again.latency_ms.items()}
        if again.faults[0]:
            return Outcome(
                variant=safer,
                result=again,
                row=0,
                latency_ms=stages,
                faults=(said, f"{safer.precision}: {again.faults[0]}"),
            )
        self._count("rescued")
        return Outcome(
            variant=safer,
            result=again,
            row=0,
            latency_ms=stages,
            faults=(),
            notes=(f"{said}; judged at {safer.precision} instead",),
        )

    def _safer_variant(self) -> LoadedVariant | None:
        """Loaded at the first fault. A failure to load is raised again at every fault: it may pass."""
        with self._loading:
            if not self._asked:
                self._safer = self._load_safer()
                self._asked = True
            return self._safer

    def _count(self, name: str, *, more: int = 1) -> None:
        with self._lock:
            self._counts[name] += more
