"""What the operators of a graph cost on ONNX Runtime and on OpenVINO, by their own profilers."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leakrt.core.unsigned_codes import codes_for_this_cpu
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
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(codes_for_this_cpu(model), options, providers=["CPUExecutionProvider"])
        for _ in range(WARM + RUNS):
            session.run(None, {session.get_inputs()[0].name: value})
        events = json.loads(Path(session.end_profiling()).read_bytes())
    kernels = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    kernels.sort(key=lambda e: int(e["ts"]))  # so that the runs follow one another
    return _medians(
        (e["name"].removesuffix("_kernel_time"), str(e["args"]["op_name"]), "", e["dur"] / 1e3) for e in kernels
    )


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
