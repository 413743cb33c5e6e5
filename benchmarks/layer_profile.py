"""What the operators of a graph cost on ONNX Runtime and on OpenVINO, by their own profilers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from leakrt.export.sessions import profile_kernels
from leakrt.runtime.backends.openvino import settings
from leakrt.runtime.backends.openvino_graph import hide_scales, open_core

RUNS, WARM = 9, 2

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Cost:
    """One kernel: median over runs."""

    name: str  # of a node of the graph, or what the runtime made of it
    kind: str  # operator
    kernel: str  # implementation and type; empty where the runtime does not say
    ms: float


def on_onnxruntime(model: bytes, value: Array, threads: int) -> list[Cost]:
    """Kernels of a graph whose one input is `value`, as ONNX Runtime optimises it."""
    runs = profile_kernels("graph", model, value, threads=threads, runs=WARM + RUNS)
    return _medians((kernel.name, kernel.operator, "", kernel.milliseconds) for run in runs for kernel in run)


def on_openvino(model: bytes, value: Array, threads: int) -> list[Cost]:
    """The same as OpenVINO compiles it, with the backend's own settings."""
    import openvino

    executed = openvino.ProfilingInfo.Status.EXECUTED
    core = open_core()
    read = core.read_model(model=model)
    hide_scales(read)
    request = core.compile_model(read, "CPU", {**settings(threads), "PERF_COUNT": True}).create_infer_request()
    found = []
    for _ in range(WARM + RUNS):
        request.infer({0: value})
        found += [_counter(info) for info in request.get_profiling_info() if info.status == executed]
    return _medians(found)


def by_kind(costs: Iterable[Cost]) -> dict[str, float]:
    """Operator and kernel to milliseconds, the dearest first."""
    sums: dict[str, float] = {}
    for cost in costs:
        key = f"{cost.kind} {cost.kernel}".strip()
        sums[key] = sums.get(key, 0.0) + cost.ms
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def _counter(info: Any) -> tuple[str, str, str, float]:
    return info.node_name, info.node_type, info.exec_type, info.real_time.total_seconds() * 1e3


def _medians(kernels: Iterable[tuple[str, str, str, float]]) -> list[Cost]:
    times: dict[tuple[str, str, str], list[float]] = {}
    for name, kind, kernel, ms in kernels:
        times.setdefault((name, kind, kernel), []).append(ms)
    # What ran in the first runs alone prepares the others.
    return [Cost(*key, float(np.median(taken[WARM:]))) for key, taken in times.items() if len(taken) > WARM]
