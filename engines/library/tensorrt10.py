"""TensorRT 10 and 11: strongly typed networks, progress reports and optimisation levels."""

from __future__ import annotations

from collections.abc import Sequence

from .flavour import Flavour, Monitor, version_numbers
from .names import BuilderFlag, IBuilderConfig, ICudaEngine, IExecutionContext, Trt
from .tensorrt8 import weak_flags

_LAST_WITH_DLA = (10, 7)  # 10.8 to 11.4.0 don't support DLAs
_NEXT_WITH_DLA = (11, 4, 1)


class TensorRT10(Flavour):
    """The dialect of 10 and 11, and the base of TensorRT-RTX."""

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
        """Return a context that uses memory of the caller, or None on failure."""
        return engine.create_execution_context(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)

    def create_context(
        self, engine: ICudaEngine, profile: int, address: int, *, size: int, stream: int
    ) -> IExecutionContext:
        context: IExecutionContext = self.new_context(engine)
        if context is None or not context.set_optimization_profile_async(profile, stream):
            return None
        context.set_device_memory(address, size)  # set after the profile, whose memory need is checked
        return context

    def dla_problem(self, precision: str) -> str:
        numbers = version_numbers(self.version)
        if numbers[:2] > _LAST_WITH_DLA and numbers < _NEXT_WITH_DLA:
            return f"{self} doesn't support DLAs; use 10.7 or earlier, or 11.4.1 (JetPack 7.2.2) or later"
        if precision == "fp32" or (precision == "int8" and self._weak_dla):
            return f"the DLA can't run {precision} graphs with {self}; use --precision fp16"
        return ""

    @property
    def _weak_dla(self) -> bool:
        """Whether builder flags select the precision of a DLA (up to 10.7)."""
        return version_numbers(self.version) < (11,)


def _progress_monitor(trt: Trt, monitor: Monitor) -> object:
    """Wrap `monitor` in an IProgressMonitor. Its base class exists only after the library is imported."""

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
