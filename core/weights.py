"""A bundle's networks and weights (`weights.safetensors`), for backends that run without an ONNX library.

The file holds the tensors of both fp32 graphs as `STEM/NAME`. Its metadata holds, under `leakrt`, a JSON object:

    {"version": 1, "networks": {STEM: {"input": NAME, "outputs": [NAME, ...],
     "nodes": [[OPERATOR, [INPUT, ...], [OUTPUT, ...], {ATTRIBUTE: VALUE}], ...]}}}

Operators and attributes follow ONNX opset 17. An input "" is an omitted optional input. Nodes are in topological order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .errors import BundleError

WEIGHTS_NAME = "weights.safetensors"
STEMS = ("vae_encoder", "leak_encoder")
DTYPES = ("float32", "int64", "bool")  # allowed tensor dtypes
_VERSION = 1
_KEY = "leakrt"
_LENGTH_BYTES = 8  # a safetensors file starts with the length of its header
_HEADER_LIMIT = 16 << 20
_MAX_NODES = 20_000

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator of a network."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A graph that runs node by node. Validated on creation; raises BundleError."""

    input: str
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, npt.NDArray[Any]]

    def __post_init__(self) -> None:
        known = {self.input, *self.tensors, ""}
        if self.input in self.tensors or len(self.nodes) > _MAX_NODES:
            raise _broken("its input is a constant, or it has too many nodes")
        for node in self.nodes:
            if not known.issuperset(node.inputs) or not node.outputs or known.intersection(node.outputs):
                raise _broken(f"{node.operator} reads an undefined tensor, has no output, or overwrites a tensor")
            known.update(node.outputs)
        if not known.issuperset(self.outputs) or not self.outputs:
            raise _broken("an output is never written")
        for name, tensor in self.tensors.items():
            if tensor.dtype.name not in DTYPES:
                raise _broken(f"{name} has dtype {tensor.dtype}")


def to_bytes(networks: Mapping[str, Network]) -> bytes:
    """Return the bytes of the file. Equal networks give equal bytes."""
    tensors = {
        f"{stem}/{name}": np.ascontiguousarray(t) for stem, n in networks.items() for name, t in n.tensors.items()
    }
    description = {"version": _VERSION, "networks": {stem: _to_json(network) for stem, network in networks.items()}}
    text = json.dumps(description, sort_keys=True, allow_nan=False, separators=(",", ":"))
    return bytes(save(tensors, metadata={_KEY: text}))


def from_bytes(data: bytes) -> dict[str, Network]:
    """Read the bytes that `to_bytes` returned: one network per stem in STEMS. Raises BundleError."""
    try:
        described = _description(data)
        tensors = load(data)
        networks = {stem: _from_json(described[stem], stem, tensors) for stem in STEMS}
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _broken(f"{type(error).__name__}: {error}") from error
    return networks


def _description(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if length > min(_HEADER_LIMIT, len(data)):
        raise ValueError(f"invalid header length of {length} bytes")
    header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
    description = json.loads(header["__metadata__"][_KEY])
    if description["version"] != _VERSION:
        raise ValueError(f"version {description['version']}, and this LeakRT reads {_VERSION}")
    return dict(description["networks"])


def _to_json(network: Network) -> dict[str, Any]:
    nodes = [[n.operator, list(n.inputs), list(n.outputs), dict(n.attributes)] for n in network.nodes]
    return {"input": network.input, "outputs": list(network.outputs), "nodes": nodes}


def _from_json(data: Mapping[str, Any], stem: str, tensors: Mapping[str, npt.NDArray[Any]]) -> Network:
    prefix = f"{stem}/"
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    nodes = tuple(
        Node(
            operator=_text(operator),
            inputs=_texts(inputs),
            outputs=_texts(outputs),
            attributes={_text(k): _attribute(v) for k, v in attributes.items()},
        )
        for operator, inputs, outputs, attributes in data["nodes"]
    )
    return Network(input=_text(data["input"]), outputs=_texts(data["outputs"]), nodes=nodes, tensors=own)


def _attribute(value: object) -> Attribute:
    if isinstance(value, list) and all(type(v) is type(value[0]) for v in value):
        return tuple(_scalar(v) for v in value)  # type: ignore[return-value]
    return _scalar(value)


def _scalar(value: object) -> int | float | str:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"invalid attribute {value!r:.50}")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("expected a list of names")
    return tuple(map(_text, value))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"invalid name {value!r:.50}")
    return value


def _broken(why: str) -> BundleError:
    return BundleError(f"{WEIGHTS_NAME} can't be used ({' '.join(why.split())[:200]}); export the bundle again")
