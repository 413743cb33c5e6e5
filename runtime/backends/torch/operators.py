"""torch implementations of the supported ONNX operators (opset 17).

Each maps the node's attributes to a function from tensors to a tensor; an omitted input is None. Integer tensors
(shapes, axes) stay on the CPU, so that reading one never synchronizes with a device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ....core.errors import ModelError
from .spatial import SPATIAL

Attributes = Mapping[str, Any]
Run = Callable[..., Any]


def _plain(function: Run) -> Callable[[Attributes], Run]:
    """Wrap the function of an operator without attributes."""
    return lambda attributes: function


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _variadic(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Attributes], Run]:
    def run(first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = function(first, other)
        return first

    return _plain(run)


def _clip(attributes: Attributes) -> Run:
    def run(x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        return x if low is None and high is None else torch.clamp(x, _number(low), _number(high))

    return run


def _number(x: Tensor | None) -> Any:
    return None if x is None else x.item()


def _gemm(attributes: Attributes) -> Run:
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)

    def run(a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a = a.t() if attributes.get("transA", 0) else a
        b = b.t() if attributes.get("transB", 0) else b
        if c is None:
            return alpha * (a @ b) if alpha != 1.0 else a @ b
        return torch.addmm(c, a, b, beta=beta, alpha=alpha)

    return run


def _softmax(attributes: Attributes) -> Run:
    axis = attributes.get("axis", -1)
    return lambda x: torch.softmax(x, axis)


def _log_softmax(attributes: Attributes) -> Run:
    axis = attributes.get("axis", -1)
    return lambda x: torch.log_softmax(x, axis)


def _layer_norm(attributes: Attributes) -> Run:
    axis, epsilon = attributes.get("axis", -1), attributes.get("epsilon", 1e-5)

    def run(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        shape = x.shape[axis % x.dim() :]
        if bias is not None:
            bias = bias.expand(shape)
        return F.layer_norm(x, shape, scale.expand(shape), bias, epsilon)

    return run


def _reduce(function: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[[Attributes], Run]:
    """Wrap a reduction. Its axes are the second input, else the attribute, else all axes."""

    def make(attributes: Attributes) -> Run:
        keep = bool(attributes.get("keepdims", 1))

        def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
            listed = list(attributes.get("axes", ())) if axes is None else axes.tolist()
            if not listed and attributes.get("noop_with_empty_axes", 0):
                return x
            return function(x, listed or list(range(x.dim())), keep)

        return run

    return make


def _cast(attributes: Attributes) -> Run:
    kinds = {1: torch.float32, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float32, 11: torch.float32}
    to = kinds.get(attributes["to"])
    if to is None:
        raise ModelError(f"Cast to ONNX type {attributes['to']} is not known to the torch backend")
    # The backend chooses the float dtype, so a cast between float types has no effect.
    return lambda x: x if to is torch.float32 and x.is_floating_point() else x.to(to)


def _reshape(attributes: Attributes) -> Run:
    def run(x: Tensor, shape: Tensor) -> Tensor:
        sizes: list[int] = shape.tolist()
        if not attributes.get("allowzero", 0):
            sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
        return x.reshape(sizes)

    return run


def _flatten(attributes: Attributes) -> Run:
    axis = attributes.get("axis", 1)

    def run(x: Tensor) -> Tensor:
        cut = axis % x.dim() if axis < 0 else axis
        return x.reshape(int(torch.Size(x.shape[:cut]).numel()), -1)

    return run


def _transpose(attributes: Attributes) -> Run:
    order = attributes.get("perm")
    return lambda x: x.permute(order if order is not None else tuple(reversed(range(x.dim()))))


def _squeeze(attributes: Attributes) -> Run:
    def run(x: Tensor, axes: Tensor | None = None) -> Tensor:
        return x.squeeze() if axes is None else x.squeeze(axes.tolist())

    return run


def _unsqueeze(attributes: Attributes) -> Run:
    def run(x: Tensor, axes: Tensor) -> Tensor:
        rank = x.dim() + axes.numel()
        for axis in sorted(a % rank for a in axes.tolist()):
            x = x.unsqueeze(axis)
        return x

    return run


def _slice(attributes: Attributes) -> Run:
    def run(x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None) -> Tensor:
        count = starts.numel()
        where = list(range(count)) if axes is None else axes.tolist()
        strides = [1] * count if steps is None else steps.tolist()
        for start, end, axis, stride in zip(starts.tolist(), ends.tolist(), where, strides, strict=True):
            if stride < 1:
                raise ModelError("a Slice with a negative step is not known to the torch backend")
            cut = slice(start, end, stride)
            x = x[(slice(None),) * (axis % x.dim()) + (cut,)]
        return x

    return run


def _split(attributes: Attributes) -> Run:
    axis, outputs = (
        attributes.get("axis", 0),
        attributes["outputs"],
    )  # added by TorchNetwork, not an ONNX attribute

    def run(x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        if sizes is not None:
            return torch.split(x, sizes.tolist(), axis)
        return torch.split(x, -(-x.shape[axis] // outputs), axis)

    return run


def _gather(attributes: Attributes) -> Run:
    axis = attributes.get("axis", 0)

    def run(x: Tensor, indices: Tensor) -> Tensor:
        size = x.shape[axis]
        if indices.dim() == 0:
            return x.select(axis, int(indices) % size)
        wanted = torch.remainder(indices, size).reshape(-1).to(x.device)
        place = axis % x.dim()
        return x.index_select(place, wanted).reshape(*x.shape[:place], *indices.shape, *x.shape[place + 1 :])

    return run


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return torch.broadcast_to(x, np.broadcast_shapes(x.shape, shape.tolist()))


def _shape(attributes: Attributes) -> Run:
    start, end = attributes.get("start", 0), attributes.get("end")
    return lambda x: torch.tensor(x.shape[start:end], dtype=torch.int64)


def _constant_of_shape(attributes: Attributes) -> Run:
    value = attributes.get("value", 0.0)
    return lambda shape: torch.full(shape.tolist(), value)


def _concat(attributes: Attributes) -> Run:
    return lambda *tensors: torch.cat(tensors, attributes["axis"])


def _log_sum_exp(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(x, axes, keep)


# Operators that read all inputs but the first as numbers. Constants among these inputs stay on the CPU.
READ_AS_NUMBERS = frozenset({"Clip", "Pad", "Resize"})

OPERATORS: dict[str, Callable[[Attributes], Run]] = {
    "Add": _plain(torch.add),
    "Sub": _plain(torch.sub),
    "Mul": _plain(torch.mul),
    "Div": _plain(_divide),
    "Pow": _plain(torch.pow),
    "Min": _variadic(torch.minimum),
    "Max": _variadic(torch.maximum),
    "Sum": _variadic(torch.add),
    "Neg": _plain(torch.neg),
    "Abs": _plain(torch.abs),
    "Sqrt": _plain(torch.sqrt),
    "Reciprocal": _plain(torch.reciprocal),
    "Exp": _plain(torch.exp),
    "Log": _plain(torch.log),
    "Erf": _plain(torch.erf),
    "Relu": _plain(torch.relu),
    "Sigmoid": _plain(torch.sigmoid),
    "Tanh": _plain(torch.tanh),
    "Softplus": _plain(F.softplus),
    "HardSwish": _plain(F.hardswish),
    "HardSigmoid": lambda a: lambda x: torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0.0, 1.0),
    "LeakyRelu": lambda a: lambda x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Elu": lambda a: lambda x: F.elu(x, a.get("alpha", 1.0)),
    "PRelu": _plain(lambda x, slope: torch.where(x < 0, x * slope, x)),
    "Clip": _clip,
    "MatMul": _plain(torch.matmul),
    "Gemm": _gemm,
    "Softmax": _softmax,
    "LogSoftmax": _log_softmax,
    "LayerNormalization": _layer_norm,
    "ReduceMean": _reduce(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceSum": _reduce(lambda x, axes, keep: x.sum(axes, keep)),
    "ReduceMax": _reduce(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMin": _reduce(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceL2": _reduce(lambda x, axes, keep: x.square().sum(axes, keep).sqrt()),
    "ReduceLogSumExp": _reduce(_log_sum_exp),
    "Identity": _plain(lambda x: x),
    "Dropout": _plain(lambda x, *left_out: x),
    "Cast": _cast,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Slice": _slice,
    "Split": _split,
    "Concat": _concat,
    "Gather": _gather,
    "Expand": _plain(_expand),
    "Shape": _shape,
    "ConstantOfShape": _constant_of_shape,
    **SPATIAL,
}
