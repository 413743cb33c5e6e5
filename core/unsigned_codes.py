"""Activations of a Q/DQ graph as uint8 codes around 128 instead of int8 codes around 0, for ONNX Runtime on x86.

clamp(round(x / s), -128, 127) + 128 = clamp(round(x / s) + 128, 0, 255): every code is 128 higher and means the same.
A bundle holds int8, the only type that TensorRT accepts. The kernels of x86 multiply uint8 with int8. ONNX Runtime 1.32
rewrites codes by itself, except those that several nodes read, and then computes such convolutions in float32. See
docs/precision.md for what this gains.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .onnx_bytes import Field, bytes_field, fields, number_field, text

_GRAPH = 7  # of a model
_NODE, _INITIALIZER, _VALUE_INFO = 1, 5, 13  # of a graph
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE = 1, 2, 4, 5  # of a node
_DIMS, _DATA_TYPE, _INT32_DATA, _NAME, _RAW_DATA = 1, 2, 5, 8, 9  # of a tensor
_GRAPH_OUTPUT = 12
_GRAPHS = (6, 11)  # of an attribute
_VALUE_NAME = 1  # of a value info
_MAX_DEPTH = 64
_UINT8, _INT8 = 2, 3  # data types
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_X86 = ("x86_64", "amd64", "i686", "i386")


@dataclass(frozen=True)
class _OnnxNode:
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def codes_for_this_cpu(model: bytes) -> bytes:
    """The graph that ONNX Runtime runs fastest here: `unsigned_codes` on x86, else unchanged."""
    return unsigned_codes(model) if platform.machine().lower() in _X86 else model


def unsigned_codes(model: bytes) -> bytes:
    """The ONNX graph with every Q/DQ pair around an activation in uint8; other graphs are returned unchanged.

    A zero point is changed if it is a scalar int8 zero that only Q/DQ pairs around activations read.
    """
    try:
        return _rewritten(model)
    except (ValueError, IndexError):
        return model  # ONNX Runtime reports what is wrong with it


def _rewritten(model: bytes) -> bytes:
    parts: list[bytes | memoryview] = []
    changed = False
    for field in fields(memoryview(model)):
        if field.number == _GRAPH and isinstance(field.value, memoryview):
            graph = list(fields(field.value))
            nodes = [_node(f.value) for f in graph if f.number == _NODE and isinstance(f.value, memoryview)]
            zeros = _zero_points(nodes, dict(_constants(graph)))
            changed = changed or bool(zeros)
            codes = {n.outputs[0] for n in nodes if n.kind == _QUANTIZE and n.inputs[2] in zeros} if zeros else set()
            parts.append(bytes_field(_GRAPH, *_graph(graph, zeros, codes)))
        else:
            parts.append(field.raw)
    return b"".join(parts) if changed else model


def _graph(graph: Sequence[Field], zeros: set[str], codes: set[str]) -> Iterator[bytes | memoryview]:
    for field in graph:
        name = _name_of(field)
        if field.number == _INITIALIZER and name in zeros:
            data = (
                number_field(_DATA_TYPE, _UINT8),
                bytes_field(_NAME, name.encode()),
                bytes_field(_RAW_DATA, b"\x80"),
            )
            yield bytes_field(_INITIALIZER, *data)
        elif field.number != _VALUE_INFO or name not in codes:  # it would still say int8
            yield field.raw


def _zero_points(nodes: Sequence[_OnnxNode], constants: Mapping[str, bool]) -> set[str]:
    """Names of the zero points to change: those of a Q of an activation, less those that anything else depends on."""
    makers = {output: node for node in nodes for output in node.outputs if node.kind == _QUANTIZE}
    around = [q for q in makers.values() if q.inputs[0] not in constants and constants.get(q.inputs[2])]
    found = {q.inputs[2] for q in around}
    for node in nodes:
        ours = node in around or (node.kind == _DEQUANTIZE and _is_pair(makers.get(node.inputs[0]), node))
        for index, name in enumerate(node.inputs):
            if not (ours and index == 2):
                found.discard(name)
            source = makers.get(name)
            if source is not None and not (index == 0 and _is_pair(source, node)):
                found.discard(source.inputs[2])
    return found


def _is_pair(source: _OnnxNode | None, node: _OnnxNode) -> bool:
    """Whether a DQ reads the codes of a Q, with its scale and zero point."""
    return source is not None and node.kind == _DEQUANTIZE and node.inputs[1:] == source.inputs[1:]


def _constants(graph: Sequence[Field]) -> Iterator[tuple[str, bool]]:
    """Every initialiser, and whether it is a scalar int8 zero."""
    for field in graph:
        if field.number == _INITIALIZER and isinstance(field.value, memoryview):
            held = list(fields(field.value))
            kinds = [f.value for f in held if f.number == _DATA_TYPE]
            data = [f.value for f in held if f.number in (_INT32_DATA, _RAW_DATA)]
            is_scalar = kinds == [_INT8] and not any(f.number == _DIMS for f in held)
            yield _name_of(field), is_scalar and [d if isinstance(d, int) else bytes(d) for d in data] in ([0], [b"\0"])


def _name_of(field: Field) -> str:
    """Of an initialiser or a value info; empty for another field."""
    where = {_INITIALIZER: _NAME, _VALUE_INFO: _VALUE_NAME}.get(field.number)
    if where is None or not isinstance(field.value, memoryview):
        return ""
    return next((text(f.value) for f in fields(field.value) if f.number == where), "")


def _node(message: memoryview) -> _OnnxNode:
    held = list(fields(message))
    inputs, outputs = (tuple(text(f.value) for f in held if f.number == n) for n in (_INPUT, _OUTPUT))
    kind = next((text(f.value) for f in held if f.number == _OP_TYPE), "")
    if kind in (_QUANTIZE, _DEQUANTIZE) and len(inputs) < 3:
        inputs = (*inputs, *[""] * (3 - len(inputs)))
    return _OnnxNode(kind, (*inputs, *_read_within(held, 0)), outputs)


def _read_within(node: Sequence[Field], depth: int) -> Iterator[str]:
    """Names that the graphs within a node read, of tensors outside among them. Raises ValueError if nested too deep."""
    if depth > _MAX_DEPTH:
        raise ValueError("graphs within graphs without end")
    for attribute in _messages(node, _ATTRIBUTE):
        for graph in map(fields, _messages(fields(attribute), *_GRAPHS)):
            parts = list(graph)
            for inner in map(list, map(fields, _messages(parts, _NODE))):
                yield from (text(f.value) for f in inner if f.number == _INPUT)
                yield from _read_within(inner, depth + 1)
            for output in _messages(parts, _GRAPH_OUTPUT):
                yield from (text(f.value) for f in fields(output) if f.number == _VALUE_NAME)


def _messages(held: Iterable[Field], *numbers: int) -> Iterator[memoryview]:
    """The values of the fields that have one of the numbers."""
    return (f.value for f in held if f.number in numbers and isinstance(f.value, memoryview))
