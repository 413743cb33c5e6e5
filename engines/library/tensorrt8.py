"""TensorRT 8.5 and 8.6: types from builder flags, no progress reports, no optimisation levels."""

from __future__ import annotations

from collections.abc import Sequence

from .flavour import Flavour, Monitor
from .names import BuilderFlag, IBuilderConfig, ICudaEngine, IExecutionContext, Trt


class TensorRT8(Flavour):
    """The dialect of 8.5 and 8.6."""

    name = "tensorrt"
    strongly_typed = False
    last_opset = 17
    has_levels = False
    has_timing_cache = True
    shares_profiles = False

    def network_flags(self, dla: bool) -> int:
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)

    def builder_flags(self, precision: str, dla: bool) -> list[BuilderFlag]:
        return weak_flags(self.trt, precision)

    def configure(self, config: IBuilderConfig, level: int, targets: Sequence[str]) -> None:
        # cuDNN and cuBLAS may be missing, and LeakRT's graphs don't need them.
        sources = (self.trt.TacticSource.EDGE_MASK_CONVOLUTIONS, self.trt.TacticSource.JIT_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in sources))

    def watch(self, config: IBuilderConfig, monitor: Monitor) -> None:
        """Do nothing: the builder of these versions reports no progress."""

    def device_memory(self, engine: ICudaEngine) -> int:
        return int(engine.device_memory_size)

    def profile_memory(self, engine: ICudaEngine, profile: int) -> int:
        return self.device_memory(engine)

    def create_context(
        self, engine: ICudaEngine, profile: int, address: int, *, size: int, stream: int
    ) -> IExecutionContext:
        context: IExecutionContext = engine.create_execution_context_without_device_memory()
        if context is None:
            return None
        context.device_memory = address
        return context if context.set_optimization_profile_async(profile, stream) else None

    def dla_problem(self, precision: str) -> str:
        if precision == "fp16":
            return ""
        return f"the DLA runs fp16 with {self}, not {precision}; use --precision fp16"


def weak_flags(trt: Trt, precision: str) -> list[BuilderFlag]:
    """Return the builder flags of a precision, for networks that are not strongly typed (TensorRT up to 10)."""
    if precision == "fp16":
        return [trt.BuilderFlag.FP16]
    if precision == "int8":
        return [trt.BuilderFlag.FP16, trt.BuilderFlag.INT8]
    return []
