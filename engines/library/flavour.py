"""What LeakRT needs of a TensorRT library; each dialect (`tensorrt8`, `tensorrt10`, `rtx`) says how it does it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from ...core.errors import UsageError
from .logger import construct, shared_logger
from .names import BuilderFlag, IBuilderConfig, ICudaEngine, IExecutionContext, Runtime, Trt

FLAVOURS = ("tensorrt", "tensorrt-rtx")
DEFAULT_LEVEL = 3
LEVELS = range(6)
NO_DLA = -1


class Flavour(ABC):
    """One TensorRT library. A subclass is one dialect: only it uses the names that its versions alone have.

    Attributes: `trt` (the module), `version` (as the library states it).
    """

    name: ClassVar[str]
    strongly_typed: ClassVar[bool]  # types come from the graph alone; else builder flags name what it holds
    last_opset: ClassVar[int]  # the newest ONNX opset its parser was written for
    has_levels: ClassVar[bool]  # the optimisation level can be chosen
    has_timing_cache: ClassVar[bool]
    shares_profiles: ClassVar[bool]  # several contexts of an engine may use one optimisation profile
    targets: ClassVar[tuple[str, ...]] = ()  # compute capabilities to build for; empty: the GPU it builds on

    def __init__(self, trt: Trt, version: str) -> None:
        self.trt: Trt = trt
        self.version = version

    def __str__(self) -> str:
        return f"{'TensorRT-RTX' if self.name == 'tensorrt-rtx' else 'TensorRT'} {self.version}"

    @abstractmethod
    def network_flags(self, dla: bool) -> int:
        """The bits for `create_network`."""

    @abstractmethod
    def builder_flags(self, precision: str, dla: bool) -> list[BuilderFlag]:
        """The builder flags that a precision needs."""

    @abstractmethod
    def configure(self, config: IBuilderConfig, level: int, targets: Sequence[str]) -> None:
        """Set what only this dialect has: optimisation level, compute capabilities, tactic sources."""

    @abstractmethod
    def watch(self, config: IBuilderConfig, monitor: Monitor) -> None:
        """Let the builder report to `monitor`, where it can."""

    @abstractmethod
    def device_memory(self, engine: ICudaEngine) -> int:
        """Bytes of device memory that one execution context needs."""

    @abstractmethod
    def profile_memory(self, engine: ICudaEngine, profile: int) -> int:
        """The same for one optimisation profile, where the library tells; else for the largest."""

    @abstractmethod
    def create_context(
        self, engine: ICudaEngine, profile: int, address: int, *, size: int, stream: int
    ) -> IExecutionContext:
        """A context for one optimisation profile that works in the `size` bytes at `address`; None when it fails.

        `stream` is a CUDA stream's handle, on which the profile is set: wait for it, or run there.
        """

    @abstractmethod
    def dla_problem(self, precision: str) -> str:
        """Why a DLA can't be used; empty where it can."""

    def gpu_problem(self, capability: str) -> str:
        """Why its engines don't run on GPUs of that compute capability; empty where they do, or it is not known."""
        return ""

    def check_targets(self, targets: Sequence[str]) -> None:
        """Raises UsageError for a compute capability that can't be named."""
        if targets:
            raise UsageError(
                f"--target: {self} builds for the GPU of this machine; use --flavour tensorrt-rtx to build for others"
            )

    def deserialize(self, data: bytes, *, dla_core: int = NO_DLA) -> ICudaEngine:
        """The engine, or None: `listening` then has the reason. Only give it bytes that the cache has verified."""
        runtime: Runtime = construct(self.trt.Runtime, shared_logger(self.trt))
        if runtime is None:
            return None
        if dla_core != NO_DLA:
            runtime.DLA_core = dla_core
        return runtime.deserialize_cuda_engine(data)


class Monitor:
    """Turns the builder's nested phases into one share of the whole, and its answer into a cancellation."""

    def __init__(self) -> None:
        self.cancelled = False
        self.asked = False  # whether the builder ever told a phase, and so asks
        self._phases: dict[str, tuple[int, int]] = {}  # open phases, outermost first: steps done, steps
        self._share = 0.0

    def start(self, phase: str, steps: int) -> None:
        """A phase opens, inside those that are open."""
        self.asked = True
        self._phases[phase] = (0, max(steps, 1))

    def step(self, phase: str, index: int) -> bool:
        """One step of a phase is done. False asks the builder to stop."""
        self.asked = True
        if phase in self._phases:
            self._phases[phase] = (index + 1, self._phases[phase][1])
        return not self.cancelled

    def finish(self, phase: str) -> None:
        """A phase is over."""
        self._phases.pop(phase, None)

    @property
    def share(self) -> float:
        """How much is done, 0 to 1; it never steps back, though the builder opens some phases more than once."""
        share = 0.0
        for done, steps in reversed(list(self._phases.values())):
            share = min((done + share) / steps, 1.0)
        self._share = max(self._share, share)
        return self._share


def version_numbers(version: str) -> tuple[int, ...]:
    """ "10.13.3.9" to (10, 13, 3, 9); a suffix that is no number ends it."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()
