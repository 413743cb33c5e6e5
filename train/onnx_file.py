"""Reading of a user's ONNX file with its external weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ModelError, one_line, require
from .onnx_nodes import every_graph

if TYPE_CHECKING:
    import onnx

_LIMIT = (2 << 30) - 1  # bytes; the maximum of a protobuf


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX model with all weights inside."""

    model: bytes
    parsed: onnx.ModelProto  # copy it before changing it
    digest: str  # SHA-256 over the file and its external weights


def read_onnx(source: str) -> OnnxFile:
    """Read an ONNX file, with external weights from its folder or below.

    Raises ModelError naming the file if it is unreadable, not an ONNX model, or has weights elsewhere.
    """
    onnx = require("onnx", "train")
    path, name = Path(source), f"onnx:{source}"
    data = _read(path)
    try:
        parsed = onnx.load_model_from_string(data)
        outside = [tensor for tensor in _tensors(parsed) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    except Exception as error:  # protobuf's exceptions
        raise ModelError(f"{name} can't be loaded: not an ONNX model ({one_line(error)}); copy it again") from error
    if not parsed.graph.node:
        raise ModelError(f"{name} can't be loaded: not an ONNX model, or an empty one; copy it again")
    if not outside:
        return OnnxFile(data, parsed, hashlib.sha256(data).hexdigest())
    digest = hashlib.sha256(data)
    room = _LIMIT - len(data)
    for tensor in outside:
        weights = _outside_weights(onnx, tensor, path, name=name, room=room)
        room -= len(weights)
        digest.update(weights)
        tensor.raw_data = weights
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
    return OnnxFile(bytes(parsed.SerializeToString()), parsed, digest.hexdigest())


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"onnx:{path} can't be read: not a file; give the path of an ONNX file")
        if path.stat().st_size > _LIMIT:
            raise ModelError(f"onnx:{path} has more than 2 GiB, the limit of an ONNX file; export only the encoder")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"onnx:{path} can't be read ({reason}); give the path of an ONNX file") from error


def _tensors(model: onnx.ModelProto) -> Iterator[Any]:
    """Yield every tensor of the model, including those in attributes and subgraphs."""
    for graph in every_graph(model):
        if hasattr(graph, "initializer"):
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    yield from (sparse.values, sparse.indices)


def _outside_weights(onnx: Any, tensor: Any, path: Path, *, name: str, room: int) -> bytes:
    """Read the bytes of an external tensor, at most `room`. Raises ModelError."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, what = entries.get("location", ""), f"{name}: weights {tensor.name}"
    target = _target(path, location, what)
    try:
        offset, size = int(entries.get("offset", "0")), target.stat().st_size
        length = int(entries.get("length", str(size - offset)))
    except ValueError as error:
        raise ModelError(f"{what} in {location} have no valid position ({error}); export the encoder again") from error
    wanted = _bytes_of(onnx, tensor, what)
    if offset < 0 or length < 0 or offset + length > size:
        raise ModelError(
            f"{what} should be bytes {offset} to {offset + length} of {location}, which has {size}; copy it again"
        )
    if length != wanted:
        raise ModelError(f"{what} need {wanted} bytes but have {length} in {location}; export the encoder again")
    if length > room:
        raise ModelError(f"{name} has more than 2 GiB with its weights, the limit of an ONNX file; use float16")
    try:
        with open(target, "rb") as handle:
            handle.seek(offset)
            data = handle.read(length)
    except OSError as error:
        raise ModelError(f"{what}: {location} can't be read ({error.strerror}); put it beside the file") from error
    if len(data) != length:
        raise ModelError(f"{what}: {location} was truncated while it was read; copy it again")
    return data


def _target(path: Path, location: str, what: str) -> Path:
    """Return the path of external weights, at or below the folder of the file or its link target. Raises ModelError."""
    asked = Path(location)
    if not location or "\0" in location or "\\" in location or asked.is_absolute() or ".." in asked.parts:
        raise ModelError(
            f"{what} are in {location!r}, which is not a path below the file's folder; save the encoder as one file"
        )
    target = (path.parent / asked).resolve()
    folders = (path.parent.resolve(), path.resolve().parent)
    if not target.is_file():
        raise ModelError(f"{what} are in {location}, which is not beside the file; put it there")
    if not any(target.is_relative_to(folder) for folder in folders):
        raise ModelError(f"{what} are in {location}, a link out of the file's folder; copy that file into the folder")
    return target


def _bytes_of(onnx: Any, tensor: Any, what: str) -> int:
    """Return the size of the tensor in bytes. Raises ModelError for a type without raw data or an invalid shape."""
    count = 1
    for n in tensor.dims:
        count *= n
    try:
        bits = _BITS.get(onnx.TensorProto.DataType.Name(tensor.data_type))
    except ValueError:
        bits = None
    if bits is None or min(tensor.dims, default=0) < 0:
        raise ModelError(f"{what} have no valid type or shape; export the encoder again")
    return (count * bits + 7) // 8


_BITS = {
    **dict.fromkeys(("BOOL", "INT8", "UINT8"), 8),
    **dict.fromkeys(("FLOAT16", "BFLOAT16", "INT16", "UINT16"), 16),
    **dict.fromkeys(("FLOAT", "INT32", "UINT32"), 32),
    **dict.fromkeys(("DOUBLE", "INT64", "UINT64"), 64),
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 8),
    **dict.fromkeys(("INT4", "UINT4"), 4),
}
