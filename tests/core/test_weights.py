"""`weights.safetensors`: networks round-trip, and invalid bytes are rejected."""

from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from leakrt.core.errors import BundleError
from leakrt.core.weights import STEMS, Network, Node, from_bytes, to_bytes

RNG = np.random.default_rng(0)
NETWORK = Network(
    input="image",
    outputs=("latent",),
    nodes=(
        Node(
            operator="Conv",
            inputs=("image", "w", ""),
            outputs=("a",),
            attributes={"strides": (2, 2), "auto_pad": "SAME_UPPER", "group": 1},
        ),
        Node(operator="LeakyRelu", inputs=("a",), outputs=("b",), attributes={"alpha": 0.1}),
        Node(operator="Reshape", inputs=("b", "shape"), outputs=("latent",), attributes={}),
    ),
    tensors={"w": RNG.standard_normal((4, 3, 3, 5), dtype=np.float32), "shape": np.array([0, -1], np.int64)},
)
NETWORKS = dict.fromkeys(STEMS, NETWORK)


def same(a: Network, b: Network) -> bool:
    tensors = a.tensors.keys() == b.tensors.keys() and all(
        np.array_equal(a.tensors[n], b.tensors[n]) for n in a.tensors
    )
    return tensors and (a.input, a.outputs, a.nodes) == (b.input, b.outputs, b.nodes)


def described(edit) -> bytes:
    """Return the file with a description changed by `edit`."""
    data = to_bytes(NETWORKS)
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    description = json.loads(header["__metadata__"]["leakrt"])
    edit(description)
    header["__metadata__"]["leakrt"] = json.dumps(description)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def first_node(description: dict) -> list:
    return description["networks"]["leak_encoder"]["nodes"][0]


def test_networks_round_trip():
    found = from_bytes(to_bytes(NETWORKS))
    assert list(found) == list(STEMS)
    assert all(same(network, NETWORK) for network in found.values())


def test_equal_networks_give_equal_bytes():
    turned = replace(NETWORK, tensors=dict(reversed(NETWORK.tensors.items())))
    assert to_bytes(NETWORKS) == to_bytes(dict.fromkeys(STEMS, turned))


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.update(version=2),
        lambda d: d["networks"].pop("leak_encoder"),
        lambda d: d["networks"]["leak_encoder"].update(nodes=[["Conv"]]),
        lambda d: d["networks"]["leak_encoder"].update(nodes=7),
        lambda d: d["networks"]["leak_encoder"].update(outputs=["nowhere"]),
        lambda d: d["networks"]["leak_encoder"].update(outputs=[]),
        lambda d: d["networks"]["leak_encoder"].update(outputs="latent"),
        lambda d: d["networks"]["leak_encoder"].update(input="w"),
        lambda d: first_node(d).__setitem__(0, 3),
        lambda d: first_node(d)[1].append("b"),  # written later
        lambda d: first_node(d).__setitem__(2, ["image"]),  # a second writer
        lambda d: first_node(d).__setitem__(2, []),
        lambda d: first_node(d)[3].update(group=None),
        lambda d: first_node(d)[3].update(group=True),
        lambda d: first_node(d)[3].update(pads=[[0], [1]]),
        lambda d: first_node(d)[3].update(pads=[0, "x"]),
        lambda d: first_node(d)[3].update(pads={"a": 1}),
    ],
)
def test_a_description_that_can_not_run_is_a_one_line_error(edit):
    with pytest.raises(BundleError, match=r"^weights\.safetensors can't be used .*; export the bundle again$"):
        from_bytes(described(edit))


def test_a_file_with_an_unchanged_description_is_accepted():
    assert same(from_bytes(described(lambda d: None))["vae_encoder"], NETWORK)


@pytest.mark.parametrize("cut", [0, 1, 8, 40, -1])
def test_a_truncated_file_is_a_one_line_error(cut):
    with pytest.raises(BundleError, match=r"^weights\.safetensors can't be used "):
        from_bytes(to_bytes(NETWORKS)[:cut])


def test_a_header_with_a_huge_length_is_not_read():
    with pytest.raises(BundleError, match="invalid header length of "):
        from_bytes(struct.pack("<Q", 1 << 40) + b"{}")


def test_a_file_without_a_description_is_a_one_line_error():
    from safetensors.numpy import save

    with pytest.raises(BundleError, match=r"^weights\.safetensors can't be used"):
        from_bytes(save({"vae_encoder/w": np.zeros(3, np.float32)}))


def test_deeply_nested_lists_are_a_one_line_error():
    text = json.dumps({"__metadata__": {"leakrt": "[" * 100_000}}).encode()
    with pytest.raises(BundleError, match=r"^weights\.safetensors can't be used"):
        from_bytes(struct.pack("<Q", len(text)) + text)


def test_a_tensor_of_another_type_is_rejected():
    with pytest.raises(BundleError, match="w has dtype float64"):
        replace(NETWORK, tensors={**NETWORK.tensors, "w": np.zeros((4, 3, 3, 5))})
