"""Fuses operator sequences: group norm, which is five operators in ONNX, and SiLU, which is two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ....core.weights import Network, Node

if TYPE_CHECKING:
    from torch import Tensor

GROUP_NORM, SILU, SUM = "leakrt.GroupNorm", "leakrt.Silu", "leakrt.Sum"  # no ONNX operator has a dot in its name
_GROUPED_RANK = 3  # of [B, groups, rest]


def fuse(network: Network) -> Network:
    """Return the network with fused operators, without the weights that are no longer used.

    leakrt.GroupNorm (x, shape, weight [C] or "", bias [C] or ""; groups, epsilon, silu): x normalized and reshaped.
    leakrt.Silu (x): x times its sigmoid.
    """
    for rewrite in (_silus, _group_norms, _norms_with_silu):
        network = rewrite(network)
    return without_unused(network)


def without_unused(network: Network) -> Network:
    """Return the network without the tensors that no node reads."""
    used = {name for node in network.nodes for name in node.inputs}
    return replace(network, tensors={name: t for name, t in network.tensors.items() if name in used})


@dataclass
class Links:
    """The readers of each tensor."""

    network: Network

    def __post_init__(self) -> None:
        self._count = Counter(name for node in self.network.nodes for name in node.inputs)
        self._count.update(self.network.outputs)
        self._readers = {name: node for node in self.network.nodes for name in node.inputs}

    def next(self, node: Node, operator: str) -> Node | None:
        """Return the only reader of the output of `node` if it is of this operator type, else None."""
        reader = self._readers.get(node.outputs[0])
        alone = self._count[node.outputs[0]] == 1 and len(node.outputs) == 1
        return reader if alone and reader is not None and reader.operator == operator else None

    def readers(self, name: str) -> int:
        return self._count[name]


def _silus(network: Network) -> Network:
    """Fuse Mul(x, Sigmoid(x)) if nothing else reads the sigmoid."""
    links, chains = Links(network), []
    for node in network.nodes:
        product = links.next(node, "Mul") if node.operator == "Sigmoid" else None
        if product is not None and sorted(product.inputs) == sorted((node.inputs[0], node.outputs[0])):
            chains.append(
                ((node, product), Node(operator=SILU, inputs=node.inputs, outputs=product.outputs, attributes={}))
            )
    return replaced(network, chains)


def _group_norms(network: Network) -> Network:
    """Fuse Reshape to [B, groups, rest], unscaled InstanceNormalization, Reshape back and the affine part, if any."""
    links, chains = Links(network), []
    for node in network.nodes:
        chain = _group_norm(network, links, node) if node.operator == "Reshape" else None
        if chain is not None:
            chains.append(chain)
    return replaced(network, chains)


def _group_norm(network: Network, links: Links, split: Node) -> tuple[tuple[Node, ...], Node] | None:
    norm = links.next(split, "InstanceNormalization")
    back = None if norm is None else links.next(norm, "Reshape")
    groups = _groups(network.tensors, split)
    if norm is None or back is None or not groups or not _is_bare(network.tensors, norm):
        return None
    target = network.tensors.get(back.inputs[1])
    if target is None or back.attributes.get("allowzero", 0) or split.attributes.get("allowzero", 0):
        return None
    nodes, last, names = [split, norm, back], back, []
    for operator in ("Mul", "Add"):
        following = links.next(last, operator)
        name = "" if following is None else _channel_weight(network.tensors, following, last.outputs[0], target=target)
        if following is not None and name:
            nodes.append(following)
            last = following
        names.append(name)
    attributes = {"groups": groups, "epsilon": norm.attributes.get("epsilon", 1e-5), "silu": 0}
    fused = Node(
        operator=GROUP_NORM,
        inputs=(split.inputs[0], back.inputs[1], *names),
        outputs=last.outputs,
        attributes=attributes,
    )
    return tuple(nodes), fused


def _groups(tensors: Mapping[str, npt.NDArray[Any]], split: Node) -> int:
    """Return the groups of a Reshape to [0, groups, -1]; 0 for any other Reshape."""
    shape = tensors.get(split.inputs[1])
    if shape is None or shape.shape != (_GROUPED_RANK,) or shape[0] != 0 or shape[2] != -1 or shape[1] < 1:
        return 0
    return int(shape[1])


def _is_bare(tensors: Mapping[str, npt.NDArray[Any]], norm: Node) -> bool:
    scale, bias = (tensors.get(name) for name in norm.inputs[1:3])
    return scale is not None and bias is not None and bool((scale == 1).all() and (bias == 0).all())


def _channel_weight(
    tensors: Mapping[str, npt.NDArray[Any]], node: Node, value: str, *, target: npt.NDArray[np.int64]
) -> str:
    """Return the name of the constant per channel that `node` applies to `value`, else ""."""
    others = [name for name in node.inputs if name != value]
    weight = tensors.get(others[0]) if len(others) == 1 else None
    if weight is None or len(target) <= 2 or target[1] < 1:
        return ""
    wanted = (int(target[1]), *(1,) * (len(target) - 2))
    return others[0] if weight.shape in (wanted, (1, *wanted)) else ""


def _norms_with_silu(network: Network) -> Network:
    links, chains = Links(network), []
    for node in network.nodes:
        after = links.next(node, SILU) if node.operator == GROUP_NORM else None
        if after is not None:
            fused = replace(node, outputs=after.outputs, attributes={**node.attributes, "silu": 1})
            chains.append(((node, after), fused))
    return replaced(network, chains)


def replaced(network: Network, chains: Sequence[tuple[tuple[Node, ...], Node]]) -> Network:
    """Replace each chain of nodes by one node, at the position of its last node."""
    fused = {id(nodes[-1]): node for nodes, node in chains}
    dropped = {id(node) for nodes, _ in chains for node in nodes}

    def nodes() -> Iterator[Node]:
        for node in network.nodes:
            if id(node) in fused:
                yield fused[id(node)]
            elif id(node) not in dropped:
                yield node

    return replace(network, nodes=tuple(nodes()))


@dataclass(frozen=True)
class PreNormSum:
    """Addends of the image x before a norm: x + other + shift. `keep`: another operation reads the sum."""

    other: Tensor | None = None  # like x
    shift: Tensor | None = None  # float32 [C]
    keep: bool = False


NOTHING = PreNormSum()
