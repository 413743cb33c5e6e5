"""Adaptation of a user's encoder to a bundle's graph: unique names, scaled output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..core.errors import require
from ..core.graphs import GraphSpec
from ..train.onnx_nodes import every_graph, names_defined, subgraphs

if TYPE_CHECKING:
    import onnx

UNSCALED, SCALE = "unscaled_latent", "latent_scale"


def separate_names(model: onnx.ModelProto, given: Mapping[str, str], reserved: Collection[str]) -> None:
    """Rename tensors as `given` maps them, and others with a reserved name or a name that shadows an outer one.

    Omitted optional outputs before the last used one get a name, since the torch backend addresses outputs by name.
    """
    taken = set(reserved) | {name for graph in every_graph(model) for name in names_defined(graph)}
    _separate(model.graph, dict(given), {}, reserved=set(reserved), taken=taken)


def append_scale(model: onnx.ModelProto, graph: GraphSpec, scale: float) -> None:
    """Append latent = scale x unscaled_latent to the graph."""
    onnx = require("onnx", "train")
    (latent,) = graph.outputs
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(scale, np.float32), SCALE))
    model.graph.node.append(onnx.helper.make_node("Mul", [UNSCALED, SCALE], [latent.name], "scale"))
    model.graph.output[0].name = latent.name


def _separate(
    graph: onnx.GraphProto, given: dict[str, str], outer: Mapping[str, str], *, reserved: set[str], taken: set[str]
) -> None:
    """Rename within one graph. `outer` maps tensors of the enclosing graphs to their new names."""
    names = dict(given)
    for old in names_defined(graph):
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
            _separate(inner, {}, visible, reserved=reserved, taken=taken)
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
