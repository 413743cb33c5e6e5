"""Fusion of group norm and SiLU from their ONNX operators."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")

from leakrt.core.weights import Network, Node
from leakrt.runtime.backends.torch.fusion import GROUP_NORM, SILU, fuse
from leakrt.runtime.backends.torch.network import Arithmetic, TorchNetwork

RNG = np.random.default_rng(3)
CHANNELS, GROUPS, EPSILON = 12, 4, 1e-3


def norm(
    affine: bool = True, silu: bool = True, target=(0, CHANNELS, 5, 7), groups: int = GROUPS, **tensors
) -> Network:
    """Build the group norm of x [B, 12, 5, 7] as torch's exporter writes it."""
    nodes = [
        Node(operator="Reshape", inputs=("x", "split"), outputs=("a",), attributes={}),
        Node(
            operator="InstanceNormalization",
            inputs=("a", "ones", "zeros"),
            outputs=("b",),
            attributes={"epsilon": EPSILON},
        ),
        Node(operator="Reshape", inputs=("b", "target"), outputs=("c",), attributes={}),
    ]
    last = "c"
    if affine:
        nodes += [
            Node(operator="Mul", inputs=("c", "weight"), outputs=("d",), attributes={}),
            Node(operator="Add", inputs=("bias", "d"), outputs=("e",), attributes={}),
        ]
        last = "e"
    if silu:
        nodes += [
            Node(operator="Sigmoid", inputs=(last,), outputs=("f",), attributes={}),
            Node(operator="Mul", inputs=(last, "f"), outputs=("g",), attributes={}),
        ]
        last = "g"
    constants = {
        "split": np.array([0, groups, -1], np.int64),
        "target": np.array(target, np.int64),
        "ones": np.ones(groups, np.float32),
        "zeros": np.zeros(groups, np.float32),
        "weight": RNG.standard_normal((CHANNELS, 1, 1), dtype=np.float32),
        "bias": RNG.standard_normal((CHANNELS, 1, 1), dtype=np.float32),
    }
    return Network(input="x", outputs=(last,), nodes=tuple(nodes), tensors={**constants, **tensors})


def operators(network: Network) -> Counter:
    return Counter(node.operator for node in fuse(network).nodes)


def run(network: Network, x: np.ndarray, **arithmetic) -> np.ndarray:
    with torch.inference_mode():
        return TorchNetwork(network, "g", Arithmetic(**arithmetic), device=torch.device("cpu"))(torch.from_numpy(x))[
            0
        ].numpy()


def by_hand(network: Network, x: np.ndarray, groups: int = GROUPS) -> np.ndarray:
    """Compute the definition in float64."""
    kinds = [node.operator for node in network.nodes]
    split = x.astype(np.float64).reshape(len(x), groups, -1)
    mean, variance = split.mean(-1, keepdims=True), split.var(-1, keepdims=True)
    found = ((split - mean) / np.sqrt(variance + EPSILON)).reshape(x.shape)
    if "Add" in kinds:
        found = found * network.tensors["weight"] + network.tensors["bias"]
    return found / (1 + np.exp(-found)) if "Sigmoid" in kinds else found


def image(batch: int = 3) -> np.ndarray:
    return RNG.normal(2.0, 3.0, (batch, CHANNELS, 5, 7)).astype(np.float32)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("silu", [True, False])
def test_the_fused_operator_gives_the_same_result(affine, silu):
    network, x = norm(affine, silu), image()
    assert operators(network) == {GROUP_NORM: 1}
    np.testing.assert_allclose(run(network, x), by_hand(network, x), rtol=1e-4, atol=1e-5)


def test_unused_weights_are_dropped():
    assert set(fuse(norm()).tensors) == {"target", "weight", "bias"}


def test_a_sigmoid_with_other_readers_is_not_fused():
    network = norm(affine=False)
    network = Network(input="x", outputs=("g", "f"), nodes=network.nodes, tensors=network.tensors)
    assert operators(network) == {GROUP_NORM: 1, "Sigmoid": 1, "Mul": 1}


def test_a_silu_without_a_norm_is_fused():
    nodes = (
        Node(operator="Sigmoid", inputs=("x",), outputs=("s",), attributes={}),
        Node(operator="Mul", inputs=("s", "x"), outputs=("y",), attributes={}),
    )
    network, x = Network(input="x", outputs=("y",), nodes=nodes, tensors={}), image()
    assert operators(network) == {SILU: 1}
    np.testing.assert_allclose(run(network, x), x / (1 + np.exp(-x.astype(np.float64))), rtol=1e-5, atol=1e-6)


def test_a_norm_with_an_intermediate_output_is_not_fused():
    network = norm()
    assert GROUP_NORM not in operators(
        Network(input="x", outputs=(*network.outputs, "b"), nodes=network.nodes, tensors=network.tensors)
    )


@pytest.mark.parametrize(
    "tensors",
    [
        {"ones": np.full(GROUPS, 2, np.float32)},
        {"zeros": np.ones(GROUPS, np.float32)},
        {"split": np.array([3, GROUPS, -1], np.int64)},
        {"split": np.array([0, GROUPS, 105], np.int64)},
    ],
)
def test_other_instance_norms_are_not_fused_and_run(tensors):
    network, x = norm(**tensors), image()
    assert operators(network)["InstanceNormalization"] == 1
    assert np.isfinite(run(network, x)).all()


def test_a_factor_that_is_not_per_channel_is_not_fused():
    network, x = norm(weight=RNG.standard_normal((1, 1, 7), dtype=np.float32)), image()
    assert operators(network) == {GROUP_NORM: 1, "Mul": 1, "Add": 1, SILU: 1}
    np.testing.assert_allclose(run(network, x), by_hand(network, x), rtol=1e-4, atol=1e-5)


def test_groups_that_do_not_divide_the_channels_are_correct():
    network, x = norm(groups=5), image()  # 12 x 5 x 7 numbers in 5 groups
    assert operators(network) == {GROUP_NORM: 1}
    np.testing.assert_allclose(run(network, x), by_hand(network, x, 5), rtol=1e-4, atol=1e-5)


def test_a_norm_that_also_reshapes_is_correct():
    network, x = norm(affine=False, target=(0, CHANNELS, -1)), image()
    np.testing.assert_allclose(run(network, x), by_hand(network, x).reshape(3, CHANNELS, 35), rtol=1e-4, atol=1e-5)


def test_channels_last_gives_the_same():
    network, x = norm(), torch.from_numpy(image())
    found = TorchNetwork(network, "g", Arithmetic(), device=torch.device("cpu"), memory_format=torch.channels_last)
    with torch.inference_mode():
        y = found(x.contiguous(memory_format=torch.channels_last))[0]
    assert y.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(y.numpy(), by_hand(network, x.numpy()), rtol=1e-4, atol=1e-5)


def test_statistics_are_float32_in_a_float16_network():
    x = image() * 50 + 300  # their squares overflow float16
    network = norm()
    found = run(network, x.astype(np.float16), dtype=torch.float16)
    np.testing.assert_allclose(found, by_hand(network, x.astype(np.float16)), rtol=1e-2, atol=1e-2)
