"""A network of `core.weights` run by torch: its nodes one after another, each value freed after its last use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....core.errors import ModelError, one_line
from ....core.weights import Network, Node
from .biases import fuse_biases
from .fusion import GROUP_NORM, SUM, fuse
from .group_norm import TORCH, NormKernels, fused
from .operators import OPERATORS, READ_AS_NUMBERS

WORKHORSES = frozenset({"Conv", "Gemm", "MatMul"})  # what carries nearly all of the work
# What a half network keeps in float32: sums over many values, and what magnifies a rounding.
_FLOAT = frozenset(
    {
        "ReduceMean",
        "ReduceSum",
        "ReduceL2",
        "ReduceLogSumExp",
        "GlobalAveragePool",
        "Softmax",
        "LogSoftmax",
        "Exp",
        "Log",
    }
    | {"Pow", "Sqrt", "Reciprocal", "LayerNormalization", "InstanceNormalization"}
)


@dataclass(frozen=True)
class Arithmetic:
    """What a network computes in.

    With float16 the operators in `half` take float16 whatever they are given, sums, powers and norms take float32, and
    the others what comes to them.
    """

    dtype: torch.dtype = torch.float32
    half: frozenset[str] = WORKHORSES


@dataclass(frozen=True, kw_only=True)
class _Step:
    run: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    over: tuple[str, ...]  # values that nothing reads after this step
    takes: torch.dtype | None  # of the float inputs; None: as they come
    numbers: bool  # inputs but the first are read as numbers
    name: str


class TorchNetwork:
    """Called with the network's input, gives its outputs in order, float32."""

    def __init__(
        self,
        network: Network,
        stem: str,
        arithmetic: Arithmetic,
        *,
        device: torch.device,
        memory_format: torch.memory_format = torch.contiguous_format,
        kernels: NormKernels = TORCH,
    ) -> None:
        """Weights go to `device`, 4-dimensional ones in the memory format; `kernels` run group norms and sums.

        Raises ModelError naming the first operator that is not known.
        """
        self._stem, self._arithmetic, self._known = stem, arithmetic, {**OPERATORS, **fused(kernels)}
        network = fuse_biases(fuse(network)) if kernels.biases else fuse(network)
        self._input, self._outputs = network.input, network.outputs
        self._steps = self._plan(network)
        self._constants = {name: torch.from_numpy(np.array(t)) for name, t in network.tensors.items()}
        self._weights = {
            name: _placed(self._constants[name], dtype, device, memory_format=memory_format)
            for name, dtype in self._dtypes(network).items()
        }

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Raises ModelError naming the step that fails."""
        values: dict[str, Any] = {**self._weights, self._input: x}
        for step in self._steps:
            try:
                result = step.run(*self._arguments(step, values))
            except torch.cuda.OutOfMemoryError:
                raise  # the backend says how much was wanted
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
                raise ModelError(f"{self._stem}: torch can't run it, at {step.name} ({one_line(error)})") from error
            values.update(zip(step.outputs, result if isinstance(result, tuple) else (result,), strict=False))
            for name in step.over:
                del values[name]
        return tuple(values[name].float() for name in self._outputs)

    def _arguments(self, step: _Step, values: Mapping[str, Any]) -> list[Tensor | None]:
        found: list[Tensor | None] = []
        for place, name in enumerate(step.inputs):
            if not name:
                found.append(None)
                continue
            constant = self._constants.get(name) if name not in values or (step.numbers and place) else None
            value: Tensor = values[name] if constant is None else constant
            wrong = step.takes is not None and value.is_floating_point() and value.dtype != step.takes
            found.append(value.to(step.takes) if wrong else value)
        return found

    def _plan(self, network: Network) -> tuple[_Step, ...]:
        last: dict[str, int] = {}
        for index, node in enumerate(network.nodes):
            last |= dict.fromkeys((*node.inputs, *node.outputs), index)
        kept = {*network.outputs, *network.tensors, ""}
        over: dict[int, list[str]] = {}
        for name, index in last.items():
            if name not in kept:
                over.setdefault(index, []).append(name)
        return tuple(self._step(node, tuple(over.get(index, ()))) for index, node in enumerate(network.nodes))

    def _step(self, node: Node, over: tuple[str, ...]) -> _Step:
        make = self._known.get(node.operator)
        name = f"{node.operator} {node.outputs[0]}"
        if make is None:
            raise ModelError(f"{self._stem}: the torch backend does not know {name}; run the bundle on another backend")
        try:
            run = make({**node.attributes, "outputs": len(node.outputs)})
        except (ModelError, KeyError, TypeError) as error:
            raise ModelError(f"{self._stem}: {name} can't be run by the torch backend: {error}") from error
        takes, numbers = self._takes(node.operator), node.operator in READ_AS_NUMBERS
        return _Step(
            run=run, inputs=node.inputs, outputs=node.outputs, over=over, takes=takes, numbers=numbers, name=name
        )

    def _takes(self, operator: str) -> torch.dtype | None:
        if self._arithmetic.dtype is torch.float32:
            return None
        if operator in self._arithmetic.half:
            return self._arithmetic.dtype
        return torch.float32 if operator in _FLOAT else None

    def _dtypes(self, network: Network) -> dict[str, torch.dtype]:
        """Of each weight that goes to the device: what its readers take, so that nothing is cast at each run."""
        readers: dict[str, set[str]] = {}
        for node in network.nodes:
            for place, name in enumerate(node.inputs):
                if name in network.tensors and not (place and node.operator in READ_AS_NUMBERS):
                    readers.setdefault(name, set()).add(node.operator)
        floats = {name for name in readers if network.tensors[name].dtype == np.float32}
        return {name: self._dtype(readers[name]) for name in floats}

    def _dtype(self, operators: set[str]) -> torch.dtype:
        """Half where all the workhorses are, for what comes to operators without a wish; float32 where they differ."""
        common = self._arithmetic.dtype if self._arithmetic.half == WORKHORSES else torch.float32
        wishes = {torch.float32 if o in (GROUP_NORM, SUM) else self._takes(o) or common for o in operators}
        return wishes.pop() if len(wishes) == 1 else torch.float32


def _placed(tensor: Tensor, dtype: torch.dtype, device: torch.device, *, memory_format: torch.memory_format) -> Tensor:
    """On the device. Channels last by its strides even where they mean nothing, as those of a 1 x 1 convolution do:
    cuDNN reads the layout of what it gives off them, too."""
    moved = tensor.to(device, dtype)
    if moved.dim() != 4:
        return moved
    if memory_format != torch.channels_last:
        return moved.contiguous(memory_format=memory_format)
    return moved.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)
