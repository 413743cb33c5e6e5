"""NVIDIA ModelOpt as the quantiser: it says where Q/DQ pairs stand, for TensorRT; ranges and graph stay LeakRT's own.

ModelOpt writes opset 19 and takes ranges from images held in memory by entropy or maxima alone. So only its placement
is taken: which inputs of which nodes get a pair. The pairs are then written into the bundle's own graph, at its opset,
with the ranges that every other method gives too (streaming, cached, any of the four). It differs from `qdq` in that
no convolution's output is quantised, only what the next convolution reads, and of a residual Add only the branch that
no convolution before it is fused with.

ModelOpt patches ONNX Runtime's quantiser in its process for good, so it runs in one of its own. Read at version 0.47.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ..core.errors import MissingExtraError, ModelError, one_line, require
from ..export.graph_io import parse_graph
from .layers import Layer, find_layers
from .qdq import WEIGHT_BITS, checked, observed_tensors, require_known, require_ranges

if TYPE_CHECKING:
    import onnx

NEEDED = ("modelopt", "onnx_graphsurgeon", "onnxscript", "lief")
_LEVELS = {7: 64.0, 8: 127.0}  # weight bits to the largest code, as ONNX Runtime's quantiser has it
_LIMIT_SECONDS = 900
_PROCESS = ("-m", "leakrt.calibration.modelopt_process")

Scale = npt.NDArray[np.float32]  # of a tensor [], or for each output channel of a weight [O]


@dataclass(frozen=True)
class Site:
    """Where ModelOpt wants a pair: an input of a node."""

    node: str
    index: int


def require_modelopt() -> None:
    """Raises MissingExtraError that names the command, without importing anything of it."""
    missing = [module for module in NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingExtraError(
            f"--quantizer modelopt needs {', '.join(missing)}; install it with: pip install 'leakrt[modelopt]'"
        )


def modelopt_tensors(model: onnx.ModelProto, layers: Collection[Layer]) -> tuple[str, ...]:
    """The tensors whose ranges `modelopt_quantise` may need when all of `layers` or fewer are int8.

    Raises MissingExtraError, ModelError.
    """
    wanted = set(observed_tensors(model, layers))
    constants = {tensor.name for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    wanted |= {nodes[site.node].input[site.index] for site in _place(model, {layer.name for layer in layers})}
    order = [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]
    return tuple(name for name in order if name in wanted - constants)


def modelopt_quantise(
    model: bytes, name: str, quantised: Collection[str], ranges: Mapping[str, float], weight_bits: int = WEIGHT_BITS[0]
) -> bytes:
    """As `qdq.quantise`, with pairs where ModelOpt places them; convolutions it finds unfit stay in floating point.

    Raises MissingExtraError, ModelError.
    """
    if not quantised:
        return model
    parsed = parse_graph(model, name)
    require_known(find_layers(parsed, name), quantised, name)
    graph = _Graph(parsed, weight_bits)
    sites = _place(parsed, set(quantised))
    require_ranges([tensor for tensor in map(graph.tensor, sites) if tensor not in graph.constants], ranges, name)
    for site in sites:
        graph.add(site, ranges)
    graph.sort()
    return checked(parsed, name)


class _Graph:
    """A graph that gets pairs; sites that read the same tensor share one."""

    def __init__(self, model: onnx.ModelProto, weight_bits: int) -> None:
        self._onnx = require("onnx", "train")
        self._graph = model.graph
        self._levels = _LEVELS[weight_bits]
        self._pairs: dict[str, str] = {}  # tensor to the output of its pair
        self._nodes = {node.name: node for node in self._graph.node}
        self.constants = {tensor.name: tensor for tensor in self._graph.initializer}

    def tensor(self, site: Site) -> str:
        """What is read there."""
        return str(self._nodes[site.node].input[site.index])

    def add(self, site: Site, ranges: Mapping[str, float]) -> None:
        """Put a pair before it, with a scale for each output channel of a weight."""
        tensor = self.tensor(site)
        if tensor not in self._pairs:
            self._pairs[tensor] = self._pair(tensor, self._scale(tensor, ranges))
        self._nodes[site.node].input[site.index] = self._pairs[tensor]

    def sort(self) -> None:
        """Each node behind those it reads."""
        waiting, known = list(self._graph.node), {"", self._graph.input[0].name}
        known.update(tensor.name for tensor in self._graph.initializer)
        ordered: list[onnx.NodeProto] = []
        while waiting:
            ready = [node for node in waiting if known.issuperset(node.input)]
            if not ready:
                raise ModelError("the nodes of the graph read one another in a circle; export the bundle again")
            ordered += ready
            known.update(name for node in ready for name in node.output)
            done = {id(node) for node in ready}
            waiting = [node for node in waiting if id(node) not in done]
        copies = [self._onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _scale(self, tensor: str, ranges: Mapping[str, float]) -> Scale:
        if tensor not in self.constants:
            return np.array(ranges[tensor] / 127.0, np.float32)
        weight = np.abs(self._onnx.numpy_helper.to_array(self.constants[tensor]))
        largest = weight.reshape(len(weight), -1).max(axis=1)
        return np.asarray(np.maximum(largest / self._levels, np.finfo(np.float32).tiny), np.float32)

    def _pair(self, tensor: str, scale: Scale) -> str:
        helper, numpy_helper = self._onnx.helper, self._onnx.numpy_helper
        names = [f"{tensor}_{what}" for what in ("scale", "zero_point", "QuantizeLinear", "DequantizeLinear")]
        zero = np.zeros(scale.shape, np.int8)
        self._graph.initializer.extend(
            [numpy_helper.from_array(scale, names[0]), numpy_helper.from_array(zero, names[1])]
        )
        axis = {"axis": 0} if scale.ndim else {}
        codes, back = f"{names[2]}_Output", f"{names[3]}_Output"
        self._graph.node.extend(
            [
                helper.make_node("QuantizeLinear", [tensor, *names[:2]], [codes], names[2], **axis),
                helper.make_node("DequantizeLinear", [codes, *names[:2]], [back], names[3], **axis),
            ]
        )
        return back


def _place(model: onnx.ModelProto, quantised: Collection[str]) -> list[Site]:
    """Where ModelOpt puts pairs when it may touch those convolutions, and Adds that join one, alone."""
    require_modelopt()
    allowed = set(quantised)
    behind = {output for node in model.graph.node if node.name in allowed for output in node.output}
    allowed |= {node.name for node in model.graph.node if node.op_type == "Add" and behind & set(node.input)}
    excluded = [node.name for node in model.graph.node if node.name not in allowed]
    with tempfile.TemporaryDirectory(prefix="leakrt-modelopt-") as folder:
        source, target, told = (Path(folder) / name for name in ("graph.onnx", "placed.onnx", "excluded.json"))
        source.write_bytes(model.SerializeToString())
        told.write_text(json.dumps(excluded))
        _run(source, target, told)
        onnx = require("onnx", "train")
        placed = onnx.load_model_from_string(target.read_bytes())
    return list(_sites(placed, {node.name for node in model.graph.node}))


def _run(source: Path, target: Path, told: Path) -> None:
    command = [sys.executable, *_PROCESS, *map(str, (source, target, told))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise ModelError(
            f"ModelOpt was still at work after {_LIMIT_SECONDS} s; take --quantizer onnxruntime"
        ) from error
    if done.returncode or not target.is_file():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ModelError(f"ModelOpt can't treat the graph ({one_line(Exception(last))}); take --quantizer onnxruntime")


def _sites(placed: onnx.ModelProto, known: Collection[str]) -> Iterator[Site]:
    back = {node.output[0] for node in placed.graph.node if node.op_type == "DequantizeLinear"}
    for node in placed.graph.node:
        if node.name in known:
            yield from (Site(node.name, index) for index, name in enumerate(node.input) if name in back)
