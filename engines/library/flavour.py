"""The interface to a TensorRT library. The dialects `tensorrt8`, `tensorrt10` and `rtx` implement it."""

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
    """A TensorRT library. A subclass implements one dialect, and uses names that only its versions have.

    Attributes: `trt` (the imported module), `version` (its `__version__`).
    """

    name: ClassVar[str]
    strongly_typed: ClassVar[bool]  # types come from the graph; otherwise from builder flags
    last_opset: ClassVar[int]  # newest ONNX opset that its parser supports
    has_levels: ClassVar[bool]  # supports optimisation levels
    has_timing_cache: ClassVar[bool]
    shares_profiles: ClassVar[bool]  # several contexts may use the same optimisation profile
    targets: ClassVar[tuple[str, ...]] = ()  # supported values of --target; empty: builds for the current GPU

    def __init__(self, trt: Trt, version: str) -> None:
        self.trt: Trt = trt
        self.version = version

    def __str__(self) -> str:
        return f"{'TensorRT-RTX' if self.name == 'tensorrt-rtx' else 'TensorRT'} {self.version}"

    @abstractmethod
    def network_flags(self, dla: bool) -> int:
        """Return the flags for `Builder.create_network`."""

    @abstractmethod
    def builder_flags(self, precision: str, dla: bool) -> list[BuilderFlag]:
        """Return the builder flags of a precision."""

    @abstractmethod
    def configure(self, config: IBuilderConfig, level: int, targets: Sequence[str]) -> None:
        """Set options specific to this dialect: optimisation level, compute capabilities, tactic sources."""

    @abstractmethod
    def watch(self, config: IBuilderConfig, monitor: Monitor) -> None:
        """Make the builder report its progress to `monitor`, if it supports that."""

    @abstractmethod
    def device_memory(self, engine: ICudaEngine) -> int:
        """Return the bytes of device memory that one execution context needs."""

    @abstractmethod
    def profile_memory(self, engine: ICudaEngine, profile: int) -> int:
        """Return the bytes that a context needs for one profile, or for the largest one if the library can't say."""

    @abstractmethod
    def create_context(
        self, engine: ICudaEngine, profile: int, address: int, *, size: int, stream: int
    ) -> IExecutionContext:
        """Return a context for one optimisation profile that uses `size` bytes of memory at `address`; None on failure.

        `stream` is the handle of the CUDA stream on which the profile is set. Synchronize with it before execution on
        another stream.
        """

    @abstractmethod
    def dla_problem(self, precision: str) -> str:
        """Return why a DLA can't be used, or an empty string."""

    def gpu_problem(self, capability: str) -> str:
        """Return why engines don't run on this compute capability; empty if they do or it is unknown."""
        return ""

    def check_targets(self, targets: Sequence[str]) -> None:
        """Raise UsageError for unsupported values of --target."""
        if targets:
            raise UsageError(
                f"--target: {self} builds only for the GPU of this machine; use --flavour tensorrt-rtx for other GPUs"
            )

    def deserialize(self, data: bytes, *, dla_core: int = NO_DLA) -> ICudaEngine:
        """Return the engine, or None on failure, with the reason in the messages of `listening`.

        Pass only bytes that the cache has verified.
        """
        runtime: Runtime = construct(self.trt.Runtime, shared_logger(self.trt))
        if runtime is None:
            return None
        if dla_core != NO_DLA:
            runtime.DLA_core = dla_core
        return runtime.deserialize_cuda_engine(data)


class Monitor:
    """Converts the nested phases of a builder to one progress value, and cancels the build on request."""

    def __init__(self) -> None:
        self.cancelled = False
        self.asked = False  # whether the builder has reported a phase, and so polls for cancellation
        self._phases: dict[str, tuple[int, int]] = {}  # open phases, outermost first: steps done, steps
        self._share = 0.0

    def start(self, phase: str, steps: int) -> None:
        """Open a phase inside the currently open ones."""
        self.asked = True
        self._phases[phase] = (0, max(steps, 1))

    def step(self, phase: str, index: int) -> bool:
        """Record a finished step. Returns False if the builder must stop."""
        self.asked = True
        if phase in self._phases:
            self._phases[phase] = (index + 1, self._phases[phase][1])
        return not self.cancelled

    def finish(self, phase: str) -> None:
        """Close a phase."""
        self._phases.pop(phase, None)

    @property
    def share(self) -> float:
        """Progress from 0 to 1. It never decreases, although the builder may reopen a phase."""
        share = 0.0
        for done, steps in reversed(list(self._phases.values())):
            share = min((done + share) / steps, 1.0)
        self._share = max(self._share, share)
        return self._share


def version_numbers(version: str) -> tuple[int, ...]:
    """Parse the leading numbers of a version: "10.13.3.9" to (10, 13, 3, 9), "11.5.0rc1" to (11, 5, 0)."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()
