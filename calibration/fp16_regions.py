"""What can be an island of float32 in an FP16 graph: a layer with what follows it, or all nodes of one operator."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# What multiplies: nearly all of the work, and what float16 is there for.
MULTIPLIERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


@dataclass(frozen=True)
class Region:
    """Nodes of one graph that become an island together."""

    graph: str  # its stem
    name: str  # of its layer, or "every OPERATOR"
    nodes: frozenset[str]
    share: float  # of the graph's multiplications


def find_regions(model: onnx.ModelProto, stem: str) -> tuple[Region, ...]:
    """Each layer that multiplies with what follows it up to the next, in topological order; then each other operator.

    The first region also holds what precedes the first layer. `model` comes from `graph_io.parse_graph`.
    """
    work = multiplications(model)
    blocks: list[list[str]] = [[]]
    names: list[str] = []
    for node in model.graph.node:
        if node.op_type in MULTIPLIERS:
            names.append(node.name)
            if len(names) > 1:
                blocks.append([])
        blocks[-1].append(node.name)
    layers = [_region(stem, name, block, work) for name, block in zip(names, blocks, strict=False)]
    others = sorted({node.op_type for node in model.graph.node} - MULTIPLIERS)
    by_operator = {op: [n.name for n in model.graph.node if n.op_type == op] for op in others}
    return (*layers, *(_region(stem, f"every {op}", nodes, work) for op, nodes in by_operator.items()))


def half_share(work: Mapping[str, int], islands: Collection[str]) -> float:
    """The share of multiplications that stays in float16."""
    total = sum(work.values())
    return sum(count for name, count in work.items() if name not in islands) / total if total else 1.0


def multiplications(model: onnx.ModelProto) -> dict[str, int]:
    """Multiplications of each node that multiplies, for one row of the batch; a size that is not static counts as 1."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    shapes = {v.name: tuple(d.dim_value or 1 for d in v.type.tensor_type.shape.dim) for v in values} | weights
    found = {}
    for node in model.graph.node:
        if node.op_type in MULTIPLIERS:
            out, left, right = (shapes.get(name, ()) for name in (node.output[0], *node.input[:2]))
            if node.op_type == "Conv":
                each = math.prod(right[1:])
            elif node.op_type == "ConvTranspose":  # every input value meets the whole kernel of its channel
                out, each = left, math.prod(right[1:])
            else:
                each = left[-1] if left else 1
            found[node.name] = math.prod(out[1:]) * each
    return found


def _region(stem: str, name: str, nodes: Collection[str], work: Mapping[str, int]) -> Region:
    return Region(stem, name, frozenset(nodes), 1.0 - half_share(work, nodes))
