"""The finite check: outputs that can't be believed are caught, retried once on a safer variant, and counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..core.errors import LeakRTError
from .loaded import LoadedVariant
from .pipeline import Array, PipelineResult


@dataclass(frozen=True)
class Counters:
    """What became of the images that a Detector has run."""

    images: int = 0
    caught: int = 0  # outputs that were not finite, or absurd
    retried: int = 0  # of those, run again on the next safer variant
    rescued: int = 0  # of those, believed the second time; the others of `caught` abstain


@dataclass(frozen=True)
class Outcome:
    """What is believed of one image, or why nothing is."""

    variant: LoadedVariant  # whose outputs they are
    result: PipelineResult
    row: int  # of the result
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # stage to milliseconds, all attempts together
    faults: tuple[str, ...] = ()  # why nothing is believed, one for each attempt; empty: it is
    notes: tuple[str, ...] = ()  # what was caught before a safer variant gave what is believed


class GuardedVariant:
    """A variant that falls back to a safer one, image by image. For one thread at a time."""

    def __init__(self, variant: LoadedVariant, load_safer: Callable[[], LoadedVariant | None]) -> None:
        """`load_safer` gives the next safer variant, or None; it is called at the first fault."""
        self.variant = variant
        self.counters = Counters()
        self._load_safer = load_safer
        self._safer: LoadedVariant | None = None
        self._asked = False

    def run(self, images: Sequence[Array]) -> list[Outcome]:
        """One outcome for each preprocessed image, float32 [3, S, S]. Raises ModelError."""
        result = self.variant.pipeline.run(images)
        outcomes = [
            self._retry(images[row], result, row, fault)
            if fault
            else Outcome(self.variant, result, row, result.latency_ms)
            for row, fault in enumerate(result.faults)
        ]
        self.counters = replace(self.counters, images=self.counters.images + len(images))
        return outcomes

    def _retry(self, image: Array, result: PipelineResult, row: int, fault: str) -> Outcome:
        said = f"{self.variant.precision}: {fault}"
        refused = Outcome(self.variant, result, row, result.latency_ms, (said,))
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
            return Outcome(safer, again, 0, stages, (said, f"{safer.precision}: {again.faults[0]}"))
        self._count("rescued")
        return Outcome(safer, again, 0, stages, (), (f"{said}; judged at {safer.precision} instead",))

    def _safer_variant(self) -> LoadedVariant | None:
        """Loaded at the first fault. A failure to load is raised again at every fault: it may pass."""
        if not self._asked:
            self._safer = self._load_safer()
            self._asked = True
        return self._safer

    def _count(self, name: str) -> None:
        self.counters = replace(self.counters, **{name: getattr(self.counters, name) + 1})
