"""Moves biases from convolutions into the following norm or sum, and sums into the following norm.

A library may add a bias in a separate pass over the image, which is slow. In a norm the bias is free, because the norm
reads the image anyway; so is a sum before a norm.

leakrt.Sum (x, other or "", bias [C] or ""; below, right): x + other + bias, padded with `below` rows and `right`
columns of zeros. leakrt.GroupNorm gets two more inputs, other and shift; see `fusion` and `group_norm`. Its optional
second output is the sum before the norm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ....core.weights import Network, Node
from .fusion import GROUP_NORM, SUM, Links, replaced, without_unused

Tensors = dict[str, npt.NDArray[Any]]
_NO_PADS = {"below": 0, "right": 0}
_X = 0  # index of the image in a norm's inputs


def fuse_biases(network: Network) -> Network:
    """Return the network with moved biases. `network` is a result of `fusion.fuse`."""
    for rewrite in (_into_norms, _into_sums, _before_norms, _sums_into_norms, _pads_into_sums):
        network = rewrite(network)
    return without_unused(network)


def _bias(network: Network, node: Node | None) -> str:
    """Return the name of a convolution's bias, or "" without one."""
    if node is None or node.operator != "Conv" or len(node.inputs) != 3:
        return ""
    tensor = network.tensors.get(node.inputs[2])
    return node.inputs[2] if tensor is not None and tensor.ndim == 1 else ""


def _bare(node: Node, *, output: str = "") -> Node:
    """Return the convolution without its bias."""
    return replace(node, inputs=node.inputs[:2], outputs=(output,) if output else node.outputs)


def _with_inputs(norm: Node, x: str, other: str, *, shift: str) -> Node:
    inputs = (*norm.inputs, "", "")[:4]
    return replace(norm, inputs=(x, *inputs[1:], other, shift))


def _is_bare_norm(node: Node | None, x: str) -> bool:
    return node is not None and node.operator == GROUP_NORM and len(node.inputs) <= 4 and node.inputs[_X] == x


def _into_norms(network: Network) -> Network:
    """Move the bias of a convolution that only a norm reads into the norm."""
    links, chains = Links(network), []
    for node in network.nodes:
        norm, bias = links.next(node, GROUP_NORM), _bias(network, node)
        if norm is not None and bias and _is_bare_norm(norm, node.outputs[0]):
            chains.append(((node,), _bare(node)))
            chains.append(((norm,), _with_inputs(norm, node.outputs[0], "", shift=bias)))
    return replaced(network, chains)


def _into_sums(network: Network) -> Network:
    """Move the biases of one or two convolutions that only an Add reads into a leakrt.Sum."""
    links, chains, tensors = Links(network), [], dict(network.tensors)
    writers = {node.outputs[0]: node for node in network.nodes}
    for node in network.nodes:
        if node.operator != "Add" or any(name in network.tensors for name in node.inputs):
            continue
        found = [writers.get(name) for name in node.inputs]
        convolutions = [c for c in found if c is not None and _bias(network, c) and links.next(c, "Add") is node]
        if not convolutions or node.inputs[0] == node.inputs[1]:
            continue
        x = convolutions[0].outputs[0]
        (other,) = (name for name in node.inputs if name != x)
        bias = _merged(tensors, [_bias(network, c) for c in convolutions])
        chains += [((c,), _bare(c)) for c in convolutions]
        chains.append(((node,), Node(operator=SUM, inputs=(x, other, bias), outputs=node.outputs, attributes=_NO_PADS)))
    return replaced(replace(network, tensors=tensors), chains)


def _merged(tensors: Tensors, names: list[str]) -> str:
    """Return the name of the sum of the biases, which is added to `tensors` if needed."""
    if len(names) == 1:
        return names[0]
    name = " + ".join(names)
    tensors[name] = np.add(*(tensors[n] for n in names))
    return name


def _before_norms(network: Network) -> Network:
    """Split off the bias of a convolution that a norm and other nodes read, as a leakrt.Sum for the norm to absorb."""
    norms = {node.inputs[_X] for node in network.nodes if _is_bare_norm(node, node.inputs[_X])}

    def nodes() -> Iterator[Node]:
        for node in network.nodes:
            bias, name = _bias(network, node), node.outputs[0]
            if not bias or name not in norms or name in network.outputs:
                yield node
                continue
            raw = f"{name} without bias"
            yield _bare(node, output=raw)
            yield Node(operator=SUM, inputs=(raw, "", bias), outputs=(name,), attributes=_NO_PADS)

    return replace(network, nodes=tuple(nodes()))


@dataclass(frozen=True)
class _Normed:
    """A sum, and the norm that absorbs it."""

    sum: Node
    norm: Node


def _sums_into_norms(network: Network) -> Network:
    """Absorb a sum that one norm reads into the norm, which returns the sum for other readers.

    The norm moves to the position of the sum, because other readers may precede the norm. Its other inputs are
    constants.
    """
    links, found = Links(network), []
    for node in (node for node in network.nodes if node.operator == SUM):
        readers = [n for n in network.nodes if node.outputs[0] in n.inputs]
        norms = [n for n in readers if _is_bare_norm(n, node.outputs[0])]
        if len(norms) == 1 and all(not name or name in network.tensors for name in norms[0].inputs[1:]):
            found.append(_Normed(node, norms[0]))
    placed = {id(f.sum): _taken_in(f, links) for f in found}
    dropped = {id(f.norm) for f in found}
    nodes = (placed.get(id(node), node) for node in network.nodes if id(node) not in dropped)
    return replace(network, nodes=tuple(nodes))


def _taken_in(found: _Normed, links: Links) -> Node:
    x, other, bias = found.sum.inputs
    norm, name = _with_inputs(found.norm, x, other, shift=bias), found.sum.outputs[0]
    return norm if links.readers(name) == 1 else replace(norm, outputs=(*norm.outputs, name))


def _pads_into_sums(network: Network) -> Network:
    """Move a convolution's padding below and right into a sum that only this convolution reads."""
    links, chains = Links(network), []
    for node in network.nodes:
        reader = links.next(node, "Conv") if node.operator == SUM else None
        pads = _uneven(reader.attributes) if reader is not None else None
        if reader is None or pads is None or reader.inputs[0] != node.outputs[0]:
            continue
        chains.append(((node,), replace(node, attributes=pads)))
        chains.append(((reader,), replace(reader, attributes={**reader.attributes, "pads": (0, 0, 0, 0)})))
    return replaced(network, chains)


def _uneven(attributes: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the padding below and right, or None if there is none or other sides are padded."""
    pads = tuple(attributes.get("pads", ()))
    if attributes.get("auto_pad", "NOTSET") != "NOTSET" or len(pads) != 4 or pads[:2] != (0, 0) or not any(pads):
        return None
    return {"below": int(pads[2]), "right": int(pads[3])}
