"""Node-level analysis and checks of a user's ONNX model, including subgraphs and functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError, one_line, require

if TYPE_CHECKING:
    import onnx

_RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
_ONNX = ("", "ai.onnx")
_MODE, _MODE_INPUT = 12, 2  # first opset where a Dropout's mode is an input; its position
_BY_ATTRIBUTE = 7  # first opset without a Dropout's is_test
_LOOP = ("trip count", "condition")  # first inputs of a Loop
_SHAPES = frozenset({"Shape", "Size"})  # their outputs don't depend on pixel values


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Yield the subgraphs of an If, Loop or Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def every_graph(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield the graph, every function and all their subgraphs. Protobuf bounds the nesting depth."""
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        waiting += [inner for node in graph.node for inner in subgraphs(node)]


def names_defined(graph: onnx.GraphProto) -> list[str]:
    """Return the distinct names that a graph defines, in order, without its subgraphs."""
    inputs, weights = ([value.name for value in values] for values in (graph.input, graph.initializer))
    made = [name for node in graph.node for name in node.output if name]
    return list(dict.fromkeys([*inputs, *weights, *made]))


def names_read(node: onnx.NodeProto) -> set[str]:
    """Return the names of its graph that a node reads, directly or in subgraphs."""
    found = set(node.input)
    for graph in subgraphs(node):
        read = {value.name for value in graph.output}.union(*map(names_read, graph.node))
        found |= read.difference(names_defined(graph))
    return found - {""}


def opset_of(model: onnx.ModelProto) -> int:
    """Return the opset version of ONNX's standard operators, 1 by default as in the ONNX specification."""
    return next((int(entry.version) for entry in model.opset_import if entry.domain in _ONNX), 1)


def sort_nodes(graph: onnx.GraphProto, name: str) -> bool:
    """Sort the nodes topologically, including subgraphs. Return whether any node moved.

    Raises ModelError naming `name` for a cycle.
    """
    within = [sort_nodes(inner, name) for node in graph.node for inner in subgraphs(node)]
    made = {output for node in graph.node for output in node.output}
    reads = [names_read(node) & made for node in graph.node]
    done: set[str] = set()
    ordered: list[int] = []
    waiting = list(range(len(reads)))
    while waiting:
        later: list[int] = []
        for i in waiting:
            if reads[i] <= done:
                ordered.append(i)
                done.update(graph.node[i].output)
            else:
                later.append(i)
        if len(later) == len(waiting):
            kinds = ", ".join(graph.node[i].op_type for i in later[:5])
            raise ModelError(f"{name}: its nodes form a cycle ({kinds}); export it again")
        waiting = later
    moved = ordered != sorted(ordered)
    if moved:
        nodes = [_copied(graph.node[i]) for i in ordered]
        del graph.node[:]
        graph.node.extend(nodes)
    return moved or any(within)


def encoder_of(model: onnx.ModelProto, output: str, name: str) -> onnx.ModelProto:
    """Return a copy with inlined functions and only the nodes that `output` depends on.

    Raises ModelError naming `name` for a function that can't be inlined.
    """
    onnx = require("onnx", "train")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if copy.functions:
        try:
            copy = require("onnx.inliner", "train").inline_local_functions(copy, convert_version=True)
        except Exception as error:  # the inliner raises bare C++ exceptions
            why = f"has functions that can't be inlined ({one_line(error)}); export it without functions"
            raise ModelError(f"{name} {why}") from error
    makers = {made: i for i, node in enumerate(copy.graph.node) for made in node.output if made}
    needed, waiting = set(), [output]
    while waiting:
        index = makers.get(waiting.pop())
        if index is not None and index not in needed:
            needed.add(index)
            waiting += names_read(copy.graph.node[index])
    kept = [node for i, node in enumerate(copy.graph.node) if i in needed]
    outputs = [value for value in copy.graph.output if value.name == output]
    read = {output}.union(*map(names_read, kept))
    weights = [tensor for tensor in copy.graph.initializer if tensor.name in read]
    for field, values in ((copy.graph.node, kept), (copy.graph.output, outputs), (copy.graph.initializer, weights)):
        values = [_copied(value) for value in values]
        del field[:]
        field.extend(values)
    return copy


def check_operators(model: onnx.ModelProto, name: str) -> None:
    """Raise ModelError naming `name` for operators that draw random numbers or are not ONNX's standard ones."""
    foreign = sorted(
        {f"{n.domain}.{n.op_type}" for graph in every_graph(model) for n in graph.node if n.domain not in _ONNX}
    )
    if foreign:
        raise ModelError(
            f"{name} uses operators of {', '.join(foreign)}; only ONNX's standard operators are supported: "
            "export it without custom ones"
        )
    found = sorted(set(_random_nodes(model.graph, opset_of(model), [])))
    if found:
        raise ModelError(
            f"{name} draws random numbers ({', '.join(found)}), so scores would differ between runs; "
            "output the posterior mean, not a sample"
        )


def check_choices(model: onnx.ModelProto, input_name: str, name: str) -> None:
    """Raise ModelError naming `name` for an If or Loop that depends on pixel values: it decides once per batch.

    Control flow that depends on shapes is allowed.
    """
    found = sorted(set(_choosing_nodes(model.graph, {input_name})))
    if found:
        raise ModelError(
            f"{name} has control flow that depends on pixel values ({', '.join(found)}), so a latent would depend on "
            "other images in its batch; export it without that control flow"
        )


def _choosing_nodes(graph: onnx.GraphProto, values: set[str]) -> Iterator[str]:
    """Yield nodes whose control flow depends on `values`, the names derived from pixels, to which outputs are added."""
    for node in graph.node:
        inner = list(subgraphs(node))
        within = set(values)
        if node.op_type == "Loop":
            within.update(value.name for graph in inner for value in graph.input[len(_LOOP) :])
            chosen_by = [*node.input[: len(_LOOP)], *(graph.output[0].name for graph in inner)]
        else:
            within.update(value.name for graph in inner for value in graph.input)
            chosen_by = [node.input[0]] if node.op_type == "If" else []
        for graph_within in inner:
            yield from _choosing_nodes(graph_within, within)
        if within.intersection(chosen_by):
            yield f"{node.op_type} {node.name}".strip()
        if node.op_type not in _SHAPES and (names_read(node) & values):
            values.update(node.output)


def _random_nodes(graph: onnx.GraphProto, opset: int, outer: Sequence[dict[str, bool]]) -> Iterator[str]:
    scopes = [*outer, _flags(graph)]
    for node in graph.node:
        if node.op_type in _RANDOM:
            yield f"{node.op_type} {node.name}".strip()
        elif node.op_type == "Dropout" and _in_training(node, opset, scopes):
            yield f"Dropout {node.name}".strip() + " in training mode"
        for inner in subgraphs(node):
            yield from _random_nodes(inner, opset, scopes)


def _in_training(node: onnx.NodeProto, opset: int, scopes: Sequence[dict[str, bool]]) -> bool:
    """Whether a Dropout may drop values: its training mode is on, or not constant."""
    if opset < _BY_ATTRIBUTE:
        return not any(attribute.name == "is_test" and attribute.i for attribute in node.attribute)
    if opset < _MODE or len(node.input) <= _MODE_INPUT or not node.input[_MODE_INPUT]:
        return False
    return next(
        (scope[node.input[_MODE_INPUT]] for scope in reversed(scopes) if node.input[_MODE_INPUT] in scope), True
    )


def _flags(graph: onnx.GraphProto) -> dict[str, bool]:
    """Map every value of a graph to False if it is a constant that is false, otherwise to True."""
    onnx = require("onnx", "train")
    found = {value.name: True for value in graph.input}
    for tensor in graph.initializer:
        found[tensor.name] = _is_true(onnx, tensor)
    for node in graph.node:
        found.update(dict.fromkeys(node.output, True))
        if node.op_type == "Constant" and len(node.attribute) == 1 and node.attribute[0].HasField("t"):
            found[node.output[0]] = _is_true(onnx, node.attribute[0].t)
    for node in graph.node:  # one level is enough: exporters write no chains of Identity
        if node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _is_true(onnx: Any, tensor: onnx.TensorProto) -> bool:
    """Whether a flag is on. A tensor with several elements counts as on."""
    return sum(tensor.dims) > 1 or bool(onnx.numpy_helper.to_array(tensor).any())


def _copied(value: Any) -> Any:
    copy = type(value)()
    copy.CopyFrom(value)
    return copy
