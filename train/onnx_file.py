"""ONNX files that users bring: read safely, put in order, and searched for operators that draw random numbers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ..core.errors import ModelError, one_line, require
from ..core.files import open_regular, sha256_bytes

if TYPE_CHECKING:
    import onnx

_LIMIT = (2 << 30) - (1 << 20)  # what a protobuf can hold, less what the graph itself takes
_RANDOM = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
)


@dataclass(frozen=True, kw_only=True)
class OnnxFile:
    """A user's model, self-contained: functions inlined, weights inside, nodes in topological order."""

    model: onnx.ModelProto
    digest: str  # SHA-256 of the file, and of the weights beside it


def read_onnx(path: Path, name: str) -> OnnxFile:
    """Read a model with the weights that lie beside it. Raises ModelError, which begins with `name`.

    Weights are read from the model's folder or below it alone. Operators that draw random numbers are refused.
    """
    onnx = require("onnx", "train")
    data = _read(path, _LIMIT, name)
    try:
        model = onnx.load_model_from_string(data)
        if not model.graph.node:
            raise ValueError("it has no nodes")
    except Exception as error:  # protobuf's own kinds
        raise ModelError(f"{name} can't be loaded: it is not an ONNX model ({one_line(error)})") from error
    digest = _take_in_weights(model, path, len(data), sha256_bytes(data), name)
    model = _inline(model, name)
    _refuse_random(model, name)
    sort_nodes(model.graph, name)
    return OnnxFile(model=model, digest=digest)


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and all graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs_of(inner)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies and branches of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def sort_nodes(graph: onnx.GraphProto, name: str) -> None:
    """Put the nodes of a graph and of those inside it in topological order, as far as possible in the order they have.

    Raises ModelError for a cycle.
    """
    for node in graph.node:
        for inner in subgraphs(node):
            sort_nodes(inner, name)
    made = {output: i for i, node in enumerate(graph.node) for output in node.output if output}
    waits = [{made[read] for read in _reads(node) if read in made} for node in graph.node]
    order: list[int] = []
    done: set[int] = set()
    pending = list(range(len(waits)))
    while pending:
        ready = []
        for i in pending:
            if waits[i] <= done:
                ready.append(i)
                done.add(i)
        if not ready:
            raise ModelError(f"{name}: node {graph.node[pending[0]].name or pending[0]} depends on its own output")
        order += ready
        pending = [i for i in pending if i not in done]
    if order != sorted(order):
        nodes = [graph.node[i] for i in order]
        copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)


def _inline(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with its functions in the places that call them."""
    if not model.functions:
        return model
    inliner = require("onnx.inliner", "train")
    try:
        inlined: onnx.ModelProto = inliner.inline_local_functions(model)
    except Exception as error:  # bare C++ exceptions
        raise ModelError(f"{name} can't be loaded: its functions can't be inlined ({one_line(error)})") from error
    return inlined


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Tensors that a node needs, those that its subgraphs read from outside among them."""
    yield from filter(None, node.input)
    for inner in subgraphs(node):
        own = {output for each in inner.node for output in each.output}
        own |= {value.name for value in inner.input} | {tensor.name for tensor in inner.initializer}
        for each in inner.node:
            yield from (read for read in _reads(each) if read not in own)
        yield from (value.name for value in inner.output if value.name not in own)


def _refuse_random(model: onnx.ModelProto, name: str) -> None:
    for graph in graphs_of(model.graph):
        for node in graph.node:
            if node.op_type in _RANDOM or (node.op_type == "Dropout" and _trains(node, model)):
                where = f"{node.op_type} ({node.name or node.output[0]})"
                raise ModelError(f"{name} draws random numbers in {where}; output the posterior mean, not a sample")


def _trains(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Whether a Dropout is, or may be, in training mode: its third input is not a constant False."""
    onnx = require("onnx", "train")
    if len(node.input) < 3 or not node.input[2]:
        return False
    for graph in graphs_of(model.graph):
        constants = [tensor for tensor in graph.initializer if tensor.name == node.input[2]]
        for each in graph.node:
            if each.op_type == "Constant" and node.input[2] in each.output:
                constants += [attribute.t for attribute in each.attribute if attribute.name == "value"]
        if constants:
            return bool(onnx.numpy_helper.to_array(constants[0]).any())
    return True


def _take_in_weights(model: onnx.ModelProto, path: Path, size: int, digest: str, name: str) -> str:
    """Move weights from other files into the model; the digest with theirs, or as it was if there are none."""
    onnx = require("onnx", "train")
    external = [t for t in _tensors(model) if t.data_location == onnx.TensorProto.EXTERNAL]
    if not external:
        return digest
    whole = hashlib.sha256(digest.encode())
    for tensor in external:
        content = _external(tensor, path, _LIMIT - size, name)
        size += len(content)
        whole.update(content)
        tensor.raw_data = content
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return whole.hexdigest()


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    nodes: list[Iterable[onnx.NodeProto]] = [function.node for function in model.functions]
    for graph in graphs_of(model.graph):
        yield from graph.initializer
        nodes.append(graph.node)
    for node in (node for group in nodes for node in group):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _external(tensor: onnx.TensorProto, path: Path, limit: int, name: str) -> bytes:
    """The bytes of a tensor in another file (ONNX, External Data): below the model's folder, links included."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    place = PurePosixPath(location.replace("\\", "/"))
    folder = path.resolve().parent
    file = folder / place
    outside = not location or "\0" in location or place.is_absolute() or ".." in place.parts
    if outside or not file.resolve().is_relative_to(folder):
        raise ModelError(f"{name} asks for weights in {location!r}, outside its own folder; save it as one file")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError as error:
        raise ModelError(f"{name}: the place of {tensor.name} in {location} is not a number") from error
    try:
        with open_regular(file) as handle:
            there = os.fstat(handle.fileno()).st_size
            length = there - offset if length < 0 else length
            if not 0 <= offset <= offset + length <= there:
                raise ModelError(f"{name}: {location} has {there} bytes, too few for {tensor.name}; save it again")
            if length > limit:
                raise ModelError(f"{name} has more than 2 GiB of weights; LeakRT reads encoders of at most 2 GiB")
            handle.seek(offset)
            return handle.read(length)
    except OSError as error:
        why = error.strerror or error
        raise ModelError(f"{name} keeps weights in {location}, which can't be read ({why}); put it beside") from error


def _read(path: Path, limit: int, name: str) -> bytes:
    try:
        with open_regular(path) as handle:
            if os.fstat(handle.fileno()).st_size > limit:
                raise ModelError(f"{name} has more than 2 GiB; LeakRT reads encoders of at most 2 GiB")
            return handle.read(limit)
    except OSError as error:
        raise ModelError(f"{name} can't be read ({error.strerror or error}); give the path of an ONNX file") from error
    except ValueError as error:  # a null byte in the name
        raise ModelError(f"{name!r} is not a file name") from error
