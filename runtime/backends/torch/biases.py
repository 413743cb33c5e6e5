"""Biases taken out of convolutions and given to what comes after them: a norm, a sum, or a sum that is then normed.

A bias that a library adds by a pass of its own over the image costs as much as a third of the convolution. In a norm it
costs nothing, for the norm reads the image anyway; so does a sum whose result is normed.

leakrt.Sum (x, other or "", bias [C] or ""; below, right): x + other + bias, with rows of zeros below and to the right.
leakrt.GroupNorm takes two inputs more, other and shift: see `fusion` and `group_norm`. With a second output it gives
the sum that it norms, too.
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
_X = 0  # place of the image among a norm's inputs


def fuse_biases(network: Network) -> Network:
    """The same network with biases where they are cheaper; `network` has been through `fusion.fuse`."""
    for rewrite in (_into_norms, _into_sums, _before_norms, _sums_into_norms, _pads_into_sums):
        network = rewrite(network)
    return without_unused(network)


def _bias(network: Network, node: Node | None) -> str:
    """The name of the bias that a convolution adds; "" for none."""
    if node is None or node.operator != "Conv" or len(node.inputs) != 3:
        return ""
    tensor = network.tensors.get(node.inputs[2])
    return node.inputs[2] if tensor is not None and tensor.ndim == 1 else ""


def _bare(node: Node, *, output: str = "") -> Node:
    """The convolution without its bias."""
    return replace(node, inputs=node.inputs[:2], outputs=(output,) if output else node.outputs)


def _with_inputs(norm: Node, x: str, other: str, *, shift: str) -> Node:
    inputs = (*norm.inputs, "", "")[:4]
    return replace(norm, inputs=(x, *inputs[1:], other, shift))


def _is_bare_norm(node: Node | None, x: str) -> bool:
    return node is not None and node.operator == GROUP_NORM and len(node.inputs) <= 4 and node.inputs[_X] == x


def _into_norms(network: Network) -> Network:
    """Of a convolution that only a norm reads."""
    links, chains = Links(network), []
    for node in network.nodes:
        norm, bias = links.next(node, GROUP_NORM), _bias(network, node)
        if norm is not None and bias and _is_bare_norm(norm, node.outputs[0]):
            chains.append(((node,), _bare(node)))
            chains.append(((norm,), _with_inputs(norm, node.outputs[0], "", shift=bias)))
    return replaced(network, chains)


def _into_sums(network: Network) -> Network:
    """Of one or both convolutions that only an Add reads."""
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
    """The name of the sum of biases, which is put among the tensors."""
    if len(names) == 1:
        return names[0]
    name = " + ".join(names)
    tensors[name] = np.add(*(tensors[n] for n in names))
    return name


def _before_norms(network: Network) -> Network:
    """Of a convolution that a norm reads and others too: a sum with nothing else, which the norm takes in."""
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
    """A sum, and the norm that takes it in."""

    sum: Node
    norm: Node


def _sums_into_norms(network: Network) -> Network:
    """A sum that one norm reads: the norm makes it, and gives it to others who read it. It stands where the sum did,
    for they may come before the norm; a norm's other inputs are constants."""
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
    """Zeros below and to the right that a convolution wants of a sum which only it reads: the sum writes them."""
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
    """What to write below and to the right, for pads on those sides alone."""
    pads = tuple(attributes.get("pads", ()))
    if attributes.get("auto_pad", "NOTSET") != "NOTSET" or len(pads) != 4 or pads[:2] != (0, 0) or not any(pads):
        return None
    return {"below": int(pads[2]), "right": int(pads[3])}
