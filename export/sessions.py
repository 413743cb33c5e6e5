"""ONNX Runtime sessions for graphs that are measured: from bytes, quiet, on a stated number of threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..core.errors import ModelError
from ..core.graphs import GraphSpec
from ..core.outputs import LeakOutputs
from ..core.unsigned_codes import codes_for_this_cpu

_FATAL = 4

Array = npt.NDArray[np.float32]


def open_session(name: str, model: bytes, threads: int, optimised: bool = True) -> Any:
    """A session on the CPU, as the runtime opens it. Raises ModelError naming `name`."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.enable_cpu_mem_arena = False  # the arena keeps the largest it ever held
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(codes_for_this_cpu(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise ModelError(f"{name}: ONNX Runtime can't load it ({one_line(error)})") from error


def run_session(name: str, session: Any, outputs: Sequence[str], feed: dict[str, Array]) -> list[Array]:
    """The named outputs. Raises ModelError naming `name`."""
    try:
        return list(session.run(list(outputs), feed))
    except Exception as error:  # as above
        raise ModelError(f"{name}: ONNX Runtime can't run it ({one_line(error)})") from error


class GraphRunner:
    """One graph of a variant, an input row at a time, so that a result never depends on its batch."""

    def __init__(self, graph: GraphSpec, model: bytes, threads: int, optimised: bool = True) -> None:
        self._graph = graph
        self._session = open_session(graph.stem, model, threads, optimised)

    def run(self, value: Array) -> list[Array]:
        """Every output of the graph, in the order of its spec, for a batch. Raises ModelError."""
        names = [tensor.name for tensor in self._graph.outputs]
        rows = [
            run_session(self._graph.stem, self._session, names, {self._graph.input.name: value[i : i + 1]})
            for i in range(len(value))
        ]
        return [np.concatenate(column) for column in zip(*rows, strict=True)]


class Variant:
    """The two graphs of a variant, loaded for measuring."""

    def __init__(self, vae: GraphRunner, leak: GraphRunner) -> None:
        self._vae, self._leak = vae, leak

    def vae_encoder(self, image: Array) -> Array:
        """image float32 [B, 3, S, S] to latent float32 [B, 4, S/8, S/8], scaled. Raises ModelError."""
        return self._vae.run(image)[0]

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """noised float32 [B, T, 4, S/8, S/8] to the four outputs. Raises ModelError."""
        return LeakOutputs(*self._leak.run(noised))


def one_line(error: Exception) -> str:
    """An exception's text without its line breaks, cut to 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
