"""Whether an ONNX file keeps weights in other files, told from its bytes without the onnx package.

A bundle's graphs are verified by their hash; weights elsewhere are not. ONNX Runtime refuses them in a graph that is
loaded from bytes, OpenVINO reads them from the working directory.
"""

from __future__ import annotations

from ...core.errors import ModelError
from ...core.onnx_bytes import fields

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
    for field in fields(message):
        number, value = field.number, field.value
        if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
            return True
        inner = _FIELDS[kind].get(number)
        if inner and isinstance(value, memoryview) and _is_external(value, inner, depth + 1):
            return True
    return False
