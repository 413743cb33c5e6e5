"""What each convolution costs on ONNX Runtime, by its own profiler."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..core.errors import ModelError
from ..core.unsigned_codes import codes_for_this_cpu
from ..export.graph_io import parse_graph
from ..export.sessions import one_line, run_session
from .layers import Layer

if TYPE_CHECKING:
    import onnx

_RUNS = 9
_WARM = 2
_BEHIND = frozenset({"Relu", "LeakyRelu", "Sigmoid", "Mul", "QuantizeLinear", "DequantizeLinear"})

Array = npt.NDArray[np.float32]


def layer_times(model: bytes, name: str, layers: Sequence[Layer], value: Array, threads: int) -> dict[str, float]:
    """Milliseconds of each layer with what follows it up to the next operator of weight, medians; "" is the rest.

    `value` is the graph's input. Kernels carry the names of what they were fused from: a node's, or that of a tensor
    behind it. Raises ModelError.
    """
    owners = _owners(parse_graph(model, name), layers)
    runs = [_run(events, owners) for events in _profile(model, name, value, threads)]
    return {key: float(np.median([run.get(key, 0.0) for run in runs])) for key in (*(la.name for la in layers), "")}


def _profile(model: bytes, name: str, value: Array, threads: int) -> list[list[tuple[str, float]]]:
    """For each run its kernels, as name and milliseconds."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        try:
            session = ort.InferenceSession(codes_for_this_cpu(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions share no base of their own
            raise ModelError(f"{name}: ONNX Runtime can't load it ({one_line(error)})") from error
        output = session.get_outputs()[0].name
        for _ in range(_WARM + _RUNS):
            run_session(name, session, [output], {session.get_inputs()[0].name: value})
        events = json.loads(Path(session.end_profiling()).read_bytes())
    return _runs(events)[_WARM:]


def _runs(events: Sequence[dict[str, Any]]) -> list[list[tuple[str, float]]]:
    """Kernel times run by run: the event of a run is written behind its kernels."""
    found: list[list[tuple[str, float]]] = [[]]
    for event in sorted(events, key=lambda e: int(e["ts"]) + int(e["dur"])):
        if event["name"] == "model_run":
            found.append([])
        elif event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found[-1].append((event["name"].removesuffix("_kernel_time"), event["dur"] / 1e3))
    return [run for run in found if run]


def _run(events: Sequence[tuple[str, float]], owners: dict[str, str]) -> dict[str, float]:
    times: dict[str, float] = {}
    for kernel, milliseconds in events:
        owner = owners.get(max((k for k in owners if _names(kernel, k)), key=len, default=""), "")
        times[owner] = times.get(owner, 0.0) + milliseconds
    return times


def _names(kernel: str, alias: str) -> bool:
    return kernel == alias or kernel.startswith(f"{alias}_")


def _owners(model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, str]:
    """Names of nodes and tensors to the layer that they belong to."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node)
    known = {layer.name for layer in layers}
    owners: dict[str, str] = {}
    for node in model.graph.node:
        if node.name not in known:
            continue
        waiting = [node]
        while waiting:
            current = waiting.pop()
            owners.setdefault(current.name, node.name)
            owners.setdefault(current.output[0], node.name)
            behind = readers.get(current.output[0], [])
            waiting.extend(n for n in behind if n.op_type in _BEHIND and n.name not in owners)
    return owners
