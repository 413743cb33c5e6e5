"""A user's encoder brought to the form of a bundle's graph: sorted, renamed where names collide, scaled."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import ModelError, require
from ..core.graphs import GraphSpec
from ..train.onnx_nodes import every_graph, names_read, subgraphs

if TYPE_CHECKING:
    import onnx

UNSCALED, SCALE = "unscaled_latent", "latent_scale"


def sort_nodes(graph: onnx.GraphProto, name: str) -> None:
    """Bring the nodes into topological order, in subgraphs too; what is in order stays as it is.

    Raises ModelError naming `name` for a cycle.
    """
    for node in graph.node:
        for inner in subgraphs(node):
            sort_nodes(inner, name)
    made = {output for node in graph.node for output in node.output}
    done: set[str] = set()
    waiting, ordered = list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if (names_read(node) - _made_within(node)) & made <= done:
                ordered.append(node)
                done.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ModelError(
                f"{name}: the nodes {', '.join(n.op_type for n in later[:5])} wait for each other; export it again"
            )
        waiting = later
    replaced = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(replaced)


def separate_names(model: onnx.ModelProto, given: Mapping[str, str], reserved: Collection[str]) -> None:
    """Rename tensors: those of `given` as it says, and others that have a reserved name or hide an outer one.

    Every optional output that is left out in the middle gets a name: what runs the graph by names needs one.
    """
    taken = set(reserved) | {name for graph in every_graph(model) for name in _defined(graph)}
    _separate(model.graph, dict(given), {}, set(reserved), taken)


def append_scale(model: onnx.ModelProto, graph: GraphSpec, scale: float) -> None:
    """latent = scale x unscaled_latent, as one multiplication at the end."""
    onnx = require("onnx", "train")
    (latent,) = graph.outputs
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(scale, np.float32), SCALE))
    model.graph.node.append(onnx.helper.make_node("Mul", [UNSCALED, SCALE], [latent.name], "scale"))
    model.graph.output[0].name = latent.name


def _separate(
    graph: onnx.GraphProto, given: dict[str, str], outer: Mapping[str, str], reserved: set[str], taken: set[str]
) -> None:
    """`outer`: the new names of tensors that the graph can read from around it."""
    names = dict(given)
    for old in _defined(graph):
        if old not in names:
            hides = old in outer or old in outer.values()
            names[old] = _fresh(old, taken) if old in reserved or hides else old
    visible = {**outer, **names}
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    for value in (*graph.input, *graph.output):
        value.name = visible.get(value.name, value.name)
    del graph.value_info[:], graph.quantization_annotation[:]
    for node in graph.node:
        for inner in subgraphs(node):
            _separate(inner, {}, visible, reserved, taken)
        node.input[:] = [visible.get(name, name) for name in node.input]
        last = max((i for i, name in enumerate(node.output) if name), default=-1)
        kept = list(node.output)[: last + 1]
        node.output[:] = [names[name] if name else _fresh("unused", taken) for name in kept]


def _fresh(name: str, taken: set[str]) -> str:
    candidate, number = f"{name}_inner", 1
    while candidate in taken:
        number += 1
        candidate = f"{name}_inner_{number}"
    taken.add(candidate)
    return candidate


def _defined(graph: onnx.GraphProto) -> Iterable[str]:
    """Names that a graph itself defines, each once, in order."""
    inputs = [value.name for value in graph.input]
    weights = [tensor.name for tensor in graph.initializer]
    return dict.fromkeys([*inputs, *weights, *(name for node in graph.node for name in node.output if name)])


def _made_within(node: onnx.NodeProto) -> set[str]:
    """Names that a node's subgraphs define, and that hide those around it."""
    found: set[str] = set()
    for graph in subgraphs(node):
        found.update(_defined(graph))
        for inner in graph.node:
            found |= _made_within(inner)
    return found - set(node.input)
