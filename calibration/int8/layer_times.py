"""Time of each convolution on ONNX Runtime, from its profiler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...export.graph_io import parse_graph
from ...export.sessions import Kernel, profile_kernels
from ..layers import Layer

if TYPE_CHECKING:
    import onnx

_RUNS = 9
_WARM = 2
_ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "Sigmoid", "Mul", "QuantizeLinear", "DequantizeLinear"})

Array = npt.NDArray[np.float32]


def layer_times(model: bytes, name: str, layers: Sequence[Layer], *, value: Array, threads: int) -> dict[str, float]:
    """Return the median milliseconds of each layer, including the elementwise operators that follow it.

    The key "" has the time of all other operators. `value` is the graph's input. A fused kernel has the name of a node
    or of a tensor that it was fused from. Raises ModelError.
    """
    owners = _owners(parse_graph(model, name), layers)
    kernels = profile_kernels(name, model, value, threads=threads, runs=_WARM + _RUNS)[_WARM:]
    runs = [_run(run, owners) for run in kernels]
    return {key: float(np.median([run.get(key, 0.0) for run in runs])) for key in (*(la.name for la in layers), "")}


def _run(kernels: Sequence[Kernel], owners: dict[str, str]) -> dict[str, float]:
    times: dict[str, float] = {}
    for kernel in kernels:
        owner = owners.get(max((k for k in owners if _names(kernel.name, k)), key=len, default=""), "")
        times[owner] = times.get(owner, 0.0) + kernel.milliseconds
    return times


def _names(kernel: str, alias: str) -> bool:
    return kernel == alias or kernel.startswith(f"{alias}_")


def _owners(model: onnx.ModelProto, layers: Sequence[Layer]) -> dict[str, str]:
    """Map the names of nodes and tensors to their layer."""
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
            users = readers.get(current.output[0], [])
            waiting.extend(n for n in users if n.op_type in _ELEMENTWISE and n.name not in owners)
    return owners
