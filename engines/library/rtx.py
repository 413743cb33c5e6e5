"""TensorRT-RTX: builds on any CPU for several compute capabilities, and compiles kernels on the target GPU."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.errors import UsageError
from .names import IBuilderConfig, ICudaEngine, IExecutionContext, IRuntimeConfig
from .tensorrt10 import TensorRT10

PORTABLE = "default"  # the library's default: 8.0, 8.6, 8.9, 12.0 and later
CURRENT = "current"  # the GPU of this machine, even if its capability is not in `targets`


class TensorRTRTX(TensorRT10):
    """The dialect of TensorRT-RTX 1."""

    name = "tensorrt-rtx"
    has_levels = False  # accepts them, but builds the same bytes
    has_timing_cache = False  # has no effect, and loading a stored one needs a GPU
    targets = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")

    def configure(self, config: IBuilderConfig, level: int, targets: Sequence[str]) -> None:
        named = [target for target in targets if target != PORTABLE]
        config.num_compute_capabilities = len(named)
        for index, target in enumerate(named):
            config.set_compute_capability(self._capability(target), index)

    def new_context(self, engine: ICudaEngine) -> IExecutionContext:
        config: IRuntimeConfig = engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        # Compile the kernels of a shape at its first run: a CUDA graph keeps the kernels that it captured.
        config.dynamic_shapes_kernel_specialization_strategy = self.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return engine.create_execution_context(config)

    def dla_problem(self, precision: str) -> str:
        return f"{self} does not run on a DLA; use --flavour tensorrt on a Jetson"

    def gpu_problem(self, capability: str) -> str:
        """Return why engines don't run there: the library builds for such a GPU, but can't load the engine."""
        if not capability or capability in self.targets or capability_order(capability) > capability_order("12.0"):
            return ""
        return f"{self} does not run on compute capability {capability}{_elsewhere(capability)}"

    def check_targets(self, targets: Sequence[str]) -> None:
        for target in targets:
            if target in (PORTABLE, CURRENT):
                if len(targets) > 1:
                    raise UsageError(
                        f"--target {target} can't be combined; give only {target}, or compute capabilities"
                    )
            elif target not in self.targets:
                raise UsageError(
                    f"--target: {self} can't build for compute capability {target}; choose from: "
                    f"{', '.join(self.targets)}{_elsewhere(target)}"
                )
        if "7.5" in targets and len(targets) > 1:
            raise UsageError("--target: an engine for 7.5 is slower on other GPUs; build it separately: --target 7.5")

    def _capability(self, target: str) -> object:
        known = self.trt.ComputeCapability
        return {
            "7.5": known.SM75,
            "8.0": known.SM80,
            "8.6": known.SM86,
            "8.9": known.SM89,
            "12.0": known.SM120,
            "12.1": known.SM121,
            CURRENT: known.CURRENT,
        }[target]


def capability_order(capability: str) -> tuple[int, ...]:
    """Return a sort key for compute capabilities; names sort before numbers."""
    parts = capability.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else ()


def _elsewhere(target: str) -> str:
    """Return the remedy for common GPUs that the library doesn't support, or an empty string."""
    boards = {"7.2": "Xavier", "8.7": "Orin", "9.0": "H100 and H200", "10.0": "B200", "11.0": "Thor"}
    if target not in boards:
        return ""
    return f"; for {target} ({boards[target]}) build on that machine with --flavour tensorrt"
