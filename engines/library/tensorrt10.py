"""TensorRT 10 and 11: strongly typed, with progress and optimisation levels."""

from __future__ import annotations

from collections.abc import Sequence

from .flavour import Flavour, Monitor, version_numbers
from .names import BuilderFlag, IBuilderConfig, ICudaEngine, IExecutionContext, Trt
from .tensorrt8 import weak_flags

_LAST_WITH_DLA = (10, 7)  # 10.8 to 11.4.0 have no DLA
_DLA_AGAIN = (11, 4, 1)


class TensorRT10(Flavour):
    """The dialect of 10 and 11, of which TensorRT-RTX is a variety."""

    name = "tensorrt"
    strongly_typed = True
    last_opset = 20
    has_levels = True
    has_timing_cache = True
    shares_profiles = True

    def network_flags(self, dla: bool) -> int:
        if dla and self._weak_dla:
            return 0
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def builder_flags(self, precision: str, dla: bool) -> list[BuilderFlag]:
        return weak_flags(self.trt, precision) if dla and self._weak_dla else []

    def configure(self, config: IBuilderConfig, level: int, targets: Sequence[str]) -> None:
        config.builder_optimization_level = level

    def watch(self, config: IBuilderConfig, monitor: Monitor) -> None:
        config.progress_monitor = _progress_monitor(self.trt, monitor)

    def device_memory(self, engine: ICudaEngine) -> int:
        return int(engine.device_memory_size_v2)

    def profile_memory(self, engine: ICudaEngine, profile: int) -> int:
        return int(engine.get_device_memory_size_for_profile_v2(profile))

    def new_context(self, engine: ICudaEngine) -> IExecutionContext:
        """A context that works in memory of the caller's; None when it fails."""
        return engine.create_execution_context(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    def create_context(
        self, engine: ICudaEngine, profile: int, address: int, *, size: int, stream: int
    ) -> IExecutionContext:
        context: IExecutionContext = self.new_context(engine)
        if context is None or not context.set_optimization_profile_async(profile, stream):
            return None
        context.set_device_memory(address, size)  # after the profile, whose need the size is checked against
        return context

    def dla_problem(self, precision: str) -> str:
        numbers = version_numbers(self.version)
        if numbers[:2] > _LAST_WITH_DLA and numbers < _DLA_AGAIN:
            return f"{self} has no DLA: it left after 10.7 and came back with 11.4.1 (JetPack 7.2.2)"
        if precision == "fp32" or (precision == "int8" and self._weak_dla):
            return f"the DLA can't run {precision} graphs with {self}; use --precision fp16"
        return ""

    @property
    def _weak_dla(self) -> bool:
        """Up to 10.7 a DLA is given its precision by builder flags."""
        return version_numbers(self.version) < (11,)


def _progress_monitor(trt: Trt, monitor: Monitor) -> object:
    """`monitor` as an IProgressMonitor, whose base class is known only once the library is imported."""

    class Reporter(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            monitor.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return monitor.step(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            monitor.finish(phase_name)

    return Reporter()
