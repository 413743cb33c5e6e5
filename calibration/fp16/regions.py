"""Candidates for float32 islands of an FP16 graph: a layer and the nodes after it, or all nodes of one operator."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..layers import MULTIPLIERS, multiplications

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, kw_only=True)
class Region:
    """Nodes of one graph that become an island together."""

    graph: str  # stem of the graph
    name: str  # name of the layer, or "every OPERATOR"
    nodes: frozenset[str]
    share: float  # of the graph's multiplications


def find_regions(model: onnx.ModelProto, stem: str) -> tuple[Region, ...]:
    """Return a region for each layer in topological order, then one for each other operator.

    A layer is a convolution or matrix product; its region also has the nodes up to the next layer. The first region
    also has the nodes before the first layer. `model` comes from `graph_io.parse_graph`.
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
    layers = [_region(stem, name, block, work=work) for name, block in zip(names, blocks, strict=False)]
    others = sorted({node.op_type for node in model.graph.node} - MULTIPLIERS)
    by_operator = {op: [n.name for n in model.graph.node if n.op_type == op] for op in others}
    return (*layers, *(_region(stem, f"every {op}", nodes, work=work) for op, nodes in by_operator.items()))


def half_share(work: Mapping[str, int], islands: Collection[str]) -> float:
    """Return the share of multiplications that stay in float16."""
    total = sum(work.values())
    return sum(count for name, count in work.items() if name not in islands) / total if total else 1.0


def _region(stem: str, name: str, nodes: Collection[str], *, work: Mapping[str, int]) -> Region:
    return Region(graph=stem, name=name, nodes=frozenset(nodes), share=1.0 - half_share(work, nodes))
