"""Runs a network of `core.weights` with torch, node by node; frees each value after its last use."""

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

WORKHORSES = frozenset({"Conv", "Gemm", "MatMul"})  # nearly all of the arithmetic
# Stay float32 in a float16 network: sums over many values, and operators that amplify rounding errors.
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
    """Dtypes in which a network computes.

    With float16, the operators in `half` cast their inputs to float16, sums, powers and norms cast theirs to float32,
    and the others keep the dtype of their inputs.
    """

    dtype: torch.dtype = torch.float32
    half: frozenset[str] = WORKHORSES


@dataclass(frozen=True, kw_only=True)
class _Step:
    run: Callable[..., Any]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    over: tuple[str, ...]  # values whose last use is this step
    takes: torch.dtype | None  # dtype of the float inputs; None: not cast
    numbers: bool  # all inputs but the first are read on the CPU as numbers
    name: str


class TorchNetwork:
    """Maps the network's input to its outputs in order, float32."""

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
        """Copy the weights to `device`, 4-dimensional ones in the memory format. `kernels` run group norms and sums.

        Raises ModelError that names the first unsupported operator.
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
        """Run the network. Raises ModelError that names the failed step."""
        values: dict[str, Any] = {**self._weights, self._input: x}
        for step in self._steps:
            try:
                result = step.run(*self._arguments(step, values))
            except torch.cuda.OutOfMemoryError:
                raise  # the backend reports the requested amount
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
        """Return the dtype of each weight on the device: that of its readers, so that no run has to cast it."""
        readers: dict[str, set[str]] = {}
        for node in network.nodes:
            for place, name in enumerate(node.inputs):
                if name in network.tensors and not (place and node.operator in READ_AS_NUMBERS):
                    readers.setdefault(name, set()).add(node.operator)
        floats = {name for name in readers if network.tensors[name].dtype == np.float32}
        return {name: self._dtype(readers[name]) for name in floats}

    def _dtype(self, operators: set[str]) -> torch.dtype:
        """Return the dtype that all readers need, or float32 if they differ.

        Operators without a fixed dtype count as float16 if all workhorses run in float16.
        """
        common = self._arithmetic.dtype if self._arithmetic.half == WORKHORSES else torch.float32
        wishes = {torch.float32 if o in (GROUP_NORM, SUM) else self._takes(o) or common for o in operators}
        return wishes.pop() if len(wishes) == 1 else torch.float32


def _placed(tensor: Tensor, dtype: torch.dtype, device: torch.device, *, memory_format: torch.memory_format) -> Tensor:
    """Move a weight to the device.

    Forces channels-last strides even where they are ambiguous, as for 1 x 1 convolutions: cuDNN derives the layout of
    its output from them.
    """
    moved = tensor.to(device, dtype)
    if moved.dim() != 4:
        return moved
    if memory_format != torch.channels_last:
        return moved.contiguous(memory_format=memory_format)
    return moved.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)
