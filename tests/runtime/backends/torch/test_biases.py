"""Biases move to the norms and sums after a convolution if that does not change the result."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from leakrt.core.weights import Network, Node
from leakrt.runtime.backends.torch.biases import fuse_biases
from leakrt.runtime.backends.torch.fusion import GROUP_NORM, SUM
from leakrt.runtime.backends.torch.group_norm import TORCH, NormKernels
from leakrt.runtime.backends.torch.network import Arithmetic, TorchNetwork

RNG = np.random.default_rng(5)
CHANNELS = 6
EVEN, UNEVEN = (1, 1, 1, 1), (0, 0, 1, 1)


def conv(x: str, y: str, pads=EVEN, stride: int = 1, name: str = "") -> Node:
    name = name or y
    return Node(
        operator="Conv",
        inputs=(x, f"{name}.w", f"{name}.b"),
        outputs=(y,),
        attributes={"pads": pads, "strides": (stride, stride), "group": 1},
    )


def norm(x: str, y: str) -> Node:
    return Node(
        operator=GROUP_NORM,
        inputs=(x, "shape", "scale", "offset"),
        outputs=(y,),
        attributes={"groups": 3, "epsilon": 1e-5, "silu": 1},
    )


def network(*nodes: Node, outputs: tuple[str, ...] = ("y",)) -> Network:
    """Build a network of x [B, 6, H, W], with weights for the names that convolutions read."""
    tensors = {"shape": np.array([0, CHANNELS, 0, 0], np.int64)}
    tensors |= {name: RNG.standard_normal(CHANNELS, dtype=np.float32) for name in ("scale", "offset")}
    for node in nodes:
        if node.operator == "Conv":
            shape = (CHANNELS, CHANNELS, 3, 3)
            tensors[node.inputs[1]] = RNG.standard_normal(shape, dtype=np.float32) / 7
            tensors[node.inputs[2]] = RNG.standard_normal(CHANNELS, dtype=np.float32)
    return Network(input="x", outputs=outputs, nodes=nodes, tensors=tensors)


def run(net: Network, kernels: NormKernels, dtype=torch.float32) -> list[np.ndarray]:
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((2, CHANNELS, 9, 7), np.float32)).to(dtype)
    made = TorchNetwork(
        net, "g", Arithmetic(dtype), device=torch.device("cpu"), memory_format=torch.channels_last, kernels=kernels
    )
    with torch.inference_mode():
        return [out.numpy() for out in made(x.contiguous(memory_format=torch.channels_last))]


def biased(net: Network) -> int:
    """Return the convolutions that still have a bias after the rewrite."""
    return sum(node.operator == "Conv" and len(node.inputs) == 3 for node in fuse_biases(net).nodes)


def kinds(net: Network) -> Counter:
    return Counter(node.operator for node in fuse_biases(net).nodes)


def assert_unchanged(net: Network) -> None:
    apart = NormKernels(biases=True)
    for found, wanted in zip(run(net, apart), run(net, TORCH), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


RESNET = (
    conv("x", "a"),
    norm("a", "b"),
    conv("b", "c"),
    norm("c", "d"),
    conv("d", "e"),
    Node(operator="Add", inputs=("a", "e"), outputs=("f",), attributes={}),
)


def test_a_norm_absorbs_the_bias_of_the_convolution_before_it():
    net = network(conv("x", "a"), norm("a", "y"))
    assert (kinds(net), biased(net)) == ({"Conv": 1, GROUP_NORM: 1}, 0)
    assert_unchanged(net)


def test_a_sum_absorbs_the_bias_of_one_or_both_convolutions():
    one = network(conv("x", "a"), Node(operator="Add", inputs=("x", "a"), outputs=("y",), attributes={}))
    both = network(
        conv("x", "a"), conv("x", "b"), Node(operator="Add", inputs=("a", "b"), outputs=("y",), attributes={})
    )
    for net, convolutions in ((one, 1), (both, 2)):
        assert (kinds(net), biased(net)) == ({"Conv": convolutions, SUM: 1}, 0)
        assert_unchanged(net)


def test_a_residual_block_becomes_convolutions_and_norms():
    net = network(*RESNET, norm("f", "g"), conv("g", "y"), outputs=("y", "f"))
    assert (kinds(net), biased(net)) == ({"Conv": 4, GROUP_NORM: 3}, 1)
    assert_unchanged(net)


def test_a_norm_returns_the_sum_for_an_earlier_reader():
    net = network(
        conv("x", "a"),
        conv("a", "b"),
        norm("a", "c"),
        Node(operator="Add", inputs=("b", "c"), outputs=("y",), attributes={}),
    )
    assert kinds(net)[SUM] == 1
    assert_unchanged(net)


def test_padding_on_two_sides_moves_into_the_sum():
    net = network(*RESNET, conv("f", "y", UNEVEN, 2))
    fused = fuse_biases(net)
    (total,) = (node for node in fused.nodes if node.operator == SUM)
    assert (total.attributes["below"], total.attributes["right"]) == (1, 1)
    assert fused.nodes[-1].attributes["pads"] == (0, 0, 0, 0)
    assert_unchanged(net)


def test_padding_stays_if_another_node_reads_the_sum():
    net = network(*RESNET, conv("f", "y", UNEVEN, 2), outputs=("y", "f"))
    assert fuse_biases(net).nodes[-1].attributes["pads"] == UNEVEN
    assert_unchanged(net)


@pytest.mark.parametrize(
    "nodes",
    [
        (conv("x", "y"),),
        (conv("x", "a"), Node(operator="Relu", inputs=("a",), outputs=("y",), attributes={})),
        (conv("x", "a"), Node(operator="Add", inputs=("a", "a"), outputs=("y",), attributes={})),
        (conv("x", "a"), Node(operator="Add", inputs=("a", "scale"), outputs=("y",), attributes={})),
    ],
    ids=["an output", "another operator", "itself", "a constant"],
)
def test_a_bias_without_a_following_norm_or_sum_stays(nodes):
    net = network(*nodes)
    net.tensors["scale"] = net.tensors["scale"][:1].copy()
    assert biased(net) == 1
    assert_unchanged(net)


def test_an_output_that_a_norm_reads_keeps_its_bias():
    net = network(conv("x", "a"), norm("a", "y"), outputs=("y", "a"))
    assert biased(net) == 1
    assert_unchanged(net)


def test_a_bias_shared_by_two_convolutions_moves_from_both():
    nodes = (
        conv("x", "a", name="s"),
        norm("a", "b"),
        conv("b", "c", name="s"),
        Node(operator="Add", inputs=("x", "c"), outputs=("y",), attributes={}),
    )
    net = network(*nodes)
    assert biased(net) == 0
    assert_unchanged(net)


def test_float16_networks_lose_no_accuracy():
    net = network(*RESNET, norm("f", "g"), conv("g", "y"))
    exact = run(net, TORCH)[0]
    errors = [np.abs(run(net, k, torch.float16)[0] - exact).max() for k in (NormKernels(biases=True), TORCH)]
    assert errors[0] < 2 * errors[1] + 1e-3


def test_unused_weights_are_dropped():
    net = network(
        conv("x", "a"), conv("x", "b"), Node(operator="Add", inputs=("a", "b"), outputs=("y",), attributes={})
    )
    assert set(fuse_biases(net).tensors) == {"a.w", "b.w", "a.b + b.b"}
