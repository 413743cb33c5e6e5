"""ONNX Runtime sessions for measuring graphs on the CPU."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import ModelError, one_line
from ..core.graphs import GraphSpec
from ..core.onnx_session import open_onnx_session
from ..core.outputs import LeakOutputs
from ..core.unsigned_codes import codes_for_this_cpu

_KERNEL = "_kernel_time"  # suffix of kernel events in the profile

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Kernel:
    """One kernel of a run, as ONNX Runtime's profiler reports it."""

    name: str  # of a graph node or of a fused one
    operator: str
    milliseconds: float


def open_session(name: str, model: bytes, threads: int, *, optimised: bool = True, profile: str = "") -> Any:
    """Open a session on the CPU as the runtime does.

    `profile` is the path prefix of the profile file; if empty, nothing is profiled. Raises ModelError naming `name`.
    """
    import onnxruntime as ort

    def configure(options: Any) -> None:
        options.enable_cpu_mem_arena = False  # the arena never shrinks
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        if not optimised:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL

    try:
        return open_onnx_session(codes_for_this_cpu(model), threads=threads, configure=configure)
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"{name}: ONNX Runtime can't load it ({one_line(error)})") from error


def run_session(name: str, session: Any, outputs: Sequence[str], *, feed: dict[str, Array]) -> list[Array]:
    """Return the named outputs. Raises ModelError naming `name`."""
    try:
        return list(session.run(list(outputs), feed))
    except Exception as error:  # as above
        raise ModelError(f"{name}: ONNX Runtime can't run it ({one_line(error)})") from error


def profile_kernels(name: str, model: bytes, value: Array, *, threads: int, runs: int) -> list[list[Kernel]]:
    """Return the kernels of each of `runs` runs of a graph, by ONNX Runtime's profiler.

    `value` is the graph's only input. Raises ModelError naming `name`.
    """
    with tempfile.TemporaryDirectory() as folder:
        session = open_session(name, model, threads, profile=str(Path(folder) / "profile"))
        (output, *_), (given,) = session.get_outputs(), session.get_inputs()
        for _ in range(runs):
            run_session(name, session, [output.name], feed={given.name: value})
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return _by_run(events)


def _by_run(events: Sequence[dict[str, Any]]) -> list[list[Kernel]]:
    """Group kernels by run: the event of a run follows the events of its kernels."""
    found: list[list[Kernel]] = [[]]
    for event in sorted(events, key=lambda e: int(e["ts"]) + int(e["dur"])):
        if event["name"] == "model_run":
            found.append([])
        elif event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            operator = str(event["args"]["op_name"])
            found[-1].append(Kernel(event["name"].removesuffix(_KERNEL), operator, event["dur"] / 1e3))
    return [run for run in found if run]


class GraphSession:
    """One graph of a variant, run one row at a time, so that a result never depends on its batch."""

    def __init__(self, graph: GraphSpec, model: bytes, threads: int, *, optimised: bool = True) -> None:
        self._graph = graph
        self._session = open_session(graph.stem, model, threads, optimised=optimised)

    def run(self, value: Array) -> list[Array]:
        """Return every output for a batch, in the order of the graph's spec. Raises ModelError."""
        names = [tensor.name for tensor in self._graph.outputs]
        rows = [
            run_session(self._graph.stem, self._session, names, feed={self._graph.input.name: value[i : i + 1]})
            for i in range(len(value))
        ]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]


class SessionPair:
    """The two graphs of a variant."""

    def __init__(self, vae: GraphSession, leak: GraphSession) -> None:
        self._vae, self._leak = vae, leak

    def vae_encoder(self, image: Array) -> Array:
        """Map image float32 [B, 3, S, S] to latent float32 [B, C, S/8, S/8], scaled. Raises ModelError."""
        return self._vae.run(image)[0]

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """Map noised float32 [B, T, C, S/8, S/8] to the four outputs. Raises ModelError."""
        return LeakOutputs(*self._leak.run(noised))
