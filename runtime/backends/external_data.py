"""Detection of external weights in an ONNX graph, from its bytes and without the onnx package.

The hash of a bundle's graph does not cover external weights. ONNX Runtime rejects them in a graph that is loaded from
bytes; OpenVINO reads them from the working directory.
"""

from __future__ import annotations

from ...core.errors import ModelError
from ...core.onnx_bytes import fields

# onnx.proto: message type to its fields that may contain tensors, and the message type of each
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
    """Raise ModelError that begins with `stem` if the graph has external weights or the bytes are not a graph."""
    try:
        found = _is_external(memoryview(model), "model", 0)
    except (IndexError, ValueError, KeyError) as error:
        raise ModelError(f"{stem}: not an ONNX graph ({error}); export the bundle again") from error
    if found:
        raise ModelError(
            f"{stem}: the graph has external weights, which its hash does not cover; export the bundle again"
        )


def _is_external(message: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("subgraphs nested too deeply")
    for field in fields(message):
        number, value = field.number, field.value
        if kind == "tensor" and (number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0)):
            return True
        inner = _FIELDS[kind].get(number)
        if inner and isinstance(value, memoryview) and _is_external(value, inner, depth + 1):
            return True
    return False
