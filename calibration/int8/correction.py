"""Layer-wise correction of the weights and biases of a quantised graph.

Rounding activations adds noise, and also shifts and shrinks the output of a layer: small negative values after a
LeakyReLU round to zero, and the error accumulates over the next layers. For each convolution in topological order, the
correction finds the weights W and bias b that minimise

    sum |y - (W u + b)|^2 + r |W - W0|^2

where u are patches of its input in the quantised graph, with the earlier layers already corrected, and y are its
outputs in the float graph for the same images. This is ridge regression, which has a closed-form solution. W is then
rounded, and b absorbs the remaining mean error. Weights and activations are rounded as at inference, in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...core.errors import ModelError, require
from ...core.progress import Progress
from ...export.graph_io import parse_graph
from ...export.sessions import open_session, run_session
from .patches import Window, patches, window_of

if TYPE_CHECKING:
    import onnx

IMAGES = 16
RIDGE = 0.1  # r per patch, relative to the mean square of the elements of a patch
_MIN_SAMPLES = 1 << 15  # patches per layer; layers with more weights use more
_SAMPLES_A_WEIGHT = 24  # patches per weight of one output channel

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def correct(
    model: bytes, quantised: bytes, name: str, *, inputs: Sequence[Array], threads: int, progress: Progress
) -> bytes:
    """Return the quantised graph with corrected weights, biases and weight scales of every convolution.

    `inputs`: inputs of the graph, float32 [B, ...] each. Grouped convolutions and those that are not 2-D are not
    changed. Raises ModelError.
    """
    exact, graph = parse_graph(model, name), parse_graph(quantised, name)
    weights = _Constants(graph)
    layers = [node for node in graph.graph.node if node.op_type == "Conv"]
    outputs = {node.name: node.output[0] for node in exact.graph.node if node.op_type == "Conv"}
    for done, node in enumerate(layers, 1):
        layer = _QuantisedLayer.of(node, graph, weights)
        if layer is not None and node.name in outputs:
            wanted = _Tap(exact, name, outputs[node.name], threads=threads)
            given = _Tap(graph, name, node.input[0], threads=threads)
            _solve(layer, weights, _gather(layer, wanted, given, inputs=inputs))
        progress(f"correcting {name}", done, len(layers))
    return bytes(graph.SerializeToString(deterministic=True))


class _Constants:
    """Read and write access to the initialisers of a graph by name."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._onnx = require("onnx", "train")
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._graph = model.graph

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def read(self, name: str) -> Array:
        return np.array(self._onnx.numpy_helper.to_array(self._tensors[name]))

    def write(self, name: str, value: npt.ArrayLike) -> None:
        if name not in self._tensors:
            self._tensors[name] = self._graph.initializer.add()
        array = np.ascontiguousarray(value, np.float32)
        self._tensors[name].CopyFrom(self._onnx.numpy_helper.from_array(array, name))


@dataclass(frozen=True, kw_only=True)
class _QuantisedLayer:
    """A convolution of the quantised graph and the names of its constants."""

    weight: str
    bias: str
    scale: str  # of the weight's Q/DQ pair; empty if the layer is in floating point
    levels: int  # the largest code of a weight
    window: Window
    shape: tuple[int, ...]  # shape of the weight

    @classmethod
    def of(cls, node: onnx.NodeProto, model: onnx.ModelProto, constants: _Constants) -> _QuantisedLayer | None:
        """Return None if the convolution is grouped, not 2-D, or has computed weights. Adds a missing bias as zeros."""
        producers = {output: n for n in model.graph.node for output in n.output}
        weight, scale = node.input[1], ""
        while weight in producers and producers[weight].op_type in ("DequantizeLinear", "QuantizeLinear"):
            scale = producers[weight].input[1]
            weight = producers[weight].input[0]
        if weight not in constants or (scale and scale not in constants):
            return None
        values = constants.read(weight)
        window = window_of(node, values.shape[2:])
        if window is None:
            return None
        if len(node.input) < 3 or not node.input[2]:
            bias = f"{node.name}.bias"
            constants.write(bias, np.zeros(len(values)))
            del node.input[2:]
            node.input.append(bias)
        if node.input[2] not in constants:
            return None
        levels = 0
        if scale:
            largest = np.abs(values).reshape(len(values), -1).max(axis=1)
            levels = round(float(np.median(largest / constants.read(scale).reshape(-1))))
        return cls(weight=weight, bias=node.input[2], scale=scale, levels=levels, window=window, shape=values.shape)


class _Tap:
    """A graph truncated after one tensor, which is its output."""

    def __init__(self, model: onnx.ModelProto, name: str, tensor: str, *, threads: int) -> None:
        onnx = require("onnx", "train")
        self._name, self._tensor, self._input = name, tensor, model.graph.input[0].name
        self._session: Any = None
        if tensor == self._input:
            return
        cut = onnx.ModelProto()
        cut.CopyFrom(model)
        kept = _needed(model, tensor)
        del cut.graph.node[:], cut.graph.output[:]
        cut.graph.node.extend(node for node in model.graph.node if node.output[0] in kept)
        cut.graph.output.append(onnx.helper.make_tensor_value_info(tensor, onnx.TensorProto.FLOAT, None))
        # Not optimised: int8 kernels of older x86 CPUs saturate, and the correction must not fit that error.
        self._session = open_session(name, cut.SerializeToString(), threads, optimised=False)

    def __call__(self, value: Array) -> Array:
        if self._session is None:
            return value
        return np.asarray(run_session(self._name, self._session, [self._tensor], feed={self._input: value})[0])


def _needed(model: onnx.ModelProto, tensor: str) -> set[str]:
    """Return the first outputs of all nodes that a tensor depends on."""
    producers = {output: node for node in model.graph.node for output in node.output}
    waiting, found = [tensor], set()
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and node.output[0] not in found:
            found.add(node.output[0])
            waiting.extend(node.input)
    return found


@dataclass
class _Moments:
    """Sums over patches u, each with a 1 appended, and outputs y."""

    patches: Doubles  # [D + 1, D + 1] of u u^T
    outputs: Doubles  # [O, D + 1] of y u^T


def _gather(layer: _QuantisedLayer, wanted: _Tap, given: _Tap, *, inputs: Sequence[Array]) -> _Moments:
    draw = np.random.default_rng(0)
    inner = int(np.prod(layer.shape[1:]))
    share = -(-max(_MIN_SAMPLES, _SAMPLES_A_WEIGHT * inner) // len(inputs))
    moments = _Moments(np.zeros((inner + 1, inner + 1)), np.zeros((layer.shape[0], inner + 1)))
    for value in inputs:
        y, x = wanted(value), given(value)
        flat = np.moveaxis(y, 1, -1).reshape(-1, y.shape[1])
        places = np.arange(len(flat)) if len(flat) <= share else np.sort(draw.choice(len(flat), share, replace=False))
        u = np.hstack([patches(x, layer.window, places), np.ones((len(places), 1), np.float32)])
        moments.patches += u.T @ u
        moments.outputs += flat[places].T @ u
    return moments


def _solve(layer: _QuantisedLayer, constants: _Constants, moments: _Moments) -> None:
    """Solve the ridge regression and write weights, bias and scale."""
    weight = constants.read(layer.weight).astype(np.float64)
    flat = weight.reshape(len(weight), -1)
    start = np.hstack([flat, constants.read(layer.bias).astype(np.float64)[:, None]])
    penalty = RIDGE * float(np.diag(moments.patches)[:-1].mean()) * np.ones(len(moments.patches))
    penalty[-1] = 0.0
    residual = moments.outputs - start @ moments.patches
    system = moments.patches + np.diag(np.maximum(penalty, 1e-12))
    try:
        found = (start + np.linalg.solve(system, residual.T).T)[:, :-1]
    except np.linalg.LinAlgError as error:
        raise ModelError(
            f"can't correct the convolution with the weight {layer.weight}: {error}; use the fp32 variant"
        ) from error
    if layer.scale:
        scale = np.maximum(np.abs(found).max(axis=1) / layer.levels, np.finfo(np.float32).tiny)
        scale = scale.astype(np.float32)
        constants.write(layer.scale, scale)
        rounded = np.rint(found / scale[:, None]) * scale[:, None]
    else:
        rounded = found
    count, sums = moments.patches[-1, -1], moments.patches[:-1, -1]
    constants.write(layer.weight, found.reshape(weight.shape))
    constants.write(layer.bias, (moments.outputs[:, -1] - rounded @ sums) / count)
