"""Whether an ONNX file keeps weights in other files, told from its bytes without the onnx package.

A bundle's graphs are verified by their hash; weights elsewhere are not. ONNX Runtime refuses them in a graph that is
loaded from bytes, OpenVINO reads them from the working directory.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...core.errors import ModelError

# onnx.proto: message to the fields that hold messages of ours, and what those are
_FIELDS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a tensor
_MAX_DEPTH = 64
_FIXED = {1: 8, 5: 4}  # wire type to bytes


def refuse_external_data(model: bytes, stem: str) -> None:
    """Raises ModelError that begins with `stem` for a graph with weights elsewhere, or bytes that are no graph."""
    try:
        found = _is_external(memoryview(model), "model", 0)
    except (IndexError, ValueError, KeyError) as error:
        raise ModelError(f"{stem}: not an ONNX graph ({error}); export the bundle again") from error
    if found:
        raise ModelError(
            f"{stem}: the graph keeps weights in other files, which no hash covers; export the bundle again"
        )


def _is_external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("graphs within graphs without end")
    for field, value in _fields(message):
        if kind == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and value != 0)):
            return True
        inner = _FIELDS[kind].get(field)
        if inner and isinstance(value, memoryview) and _is_external(value, inner, depth + 1):
            return True
    return False


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Number and value of each field: a view of what has a length or a fixed size, else the number."""
    at = 0
    while at < len(message):
        tag, at = _number(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _number(message, at)
            yield tag >> 3, value
            continue
        size = _FIXED.get(wire, 0)
        if wire == 2:
            size, at = _number(message, at)
        elif not size:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("cut short")
        yield tag >> 3, message[at : at + size]
        at += size


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """A base-128 number and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without end")
