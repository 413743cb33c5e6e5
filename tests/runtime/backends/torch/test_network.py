"""Whole networks compared with ONNX Runtime: both graphs of a bundle, and a Stable Diffusion encoder."""

from __future__ import annotations

import numpy as np
import pytest
from bundles import TINY_SPEC, leak_encoder, vae_encoder

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")

from leakrt.core.errors import ModelError
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.core.spec import ModelSpec
from leakrt.core.weights import Network, Node
from leakrt.export.sessions import GraphSession
from leakrt.export.weights import network_of
from leakrt.runtime.backends.torch.fusion import GROUP_NORM, fuse
from leakrt.runtime.backends.torch.network import Arithmetic, TorchNetwork

RNG = np.random.default_rng(0)
CPU = torch.device("cpu")


def run(network: TorchNetwork, x: np.ndarray) -> list[np.ndarray]:
    with torch.inference_mode():
        return [output.numpy() for output in network(torch.from_numpy(x))]


@pytest.fixture(scope="module")
def sd_vae():
    """The ONNX file of a small AutoencoderKL's encoder with random weights, and its spec."""
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
    from leakrt.export.torch_export import export_module
    from leakrt.export.vae_graph import ScaledEncoder

    torch.manual_seed(0)
    model = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 16, 32, 32), norm_num_groups=4,
    )  # fmt: skip
    for name, weight in model.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(weight, 1.0 if name.endswith("weight") else 0.0, 0.3)
    spec = ModelSpec(class_names=("real", "x"), real_class="real", image_size=56)
    return export_module(ScaledEncoder(model, 0.18215), vae_encoder_graph(spec)), spec


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_stable_diffusion_encoder_matches_onnx_runtime(sd_vae, memory_format):
    model, spec = sd_vae
    image = RNG.uniform(-1, 1, (2, 3, 56, 56)).astype(np.float32)
    wanted = GraphSession(vae_encoder_graph(spec), model, 1).run(image)[0]
    found = run(
        TorchNetwork(
            network_of(model, "vae_encoder"), "vae_encoder", Arithmetic(), device=CPU, memory_format=memory_format
        ),
        image,
    )[0]
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_every_norm_of_a_stable_diffusion_encoder_is_fused(sd_vae):
    network = network_of(sd_vae[0], "vae_encoder")
    norms = sum(node.operator == "InstanceNormalization" for node in network.nodes)
    operators = [node.operator for node in fuse(network).nodes]
    assert operators.count(GROUP_NORM) == norms > 10
    assert not {"InstanceNormalization", "Sigmoid"} & set(operators)


def test_a_float16_encoder_is_near_the_float32_one(sd_vae):
    network = network_of(sd_vae[0], "vae_encoder")
    image = RNG.uniform(-1, 1, (1, 3, 56, 56)).astype(np.float32)
    wanted, found = (
        run(TorchNetwork(network, "vae_encoder", Arithmetic(dtype), device=CPU), image)[0]
        for dtype in (torch.float32, torch.float16)
    )
    error = np.sqrt(((found - wanted) ** 2).mean()) / wanted.std()
    assert 1e-5 < error < 2e-2  # float16 changes it, but not by more


def test_both_graphs_of_a_bundle_match_onnx_runtime():
    spec = TINY_SPEC
    prototypes = RNG.standard_normal((3, spec.prototypes_per_class, spec.embedding_dim)).astype(np.float32)
    for graph, model in (
        (vae_encoder_graph(spec), vae_encoder(spec)),
        (leak_encoder_graph(spec), leak_encoder(spec, prototypes)),
    ):
        x = RNG.standard_normal((3, *graph.input.shape)).astype(np.float32)
        network = network_of(model, graph.stem)
        found = dict(
            zip(network.outputs, run(TorchNetwork(network, graph.stem, Arithmetic(), device=CPU), x), strict=True)
        )
        for tensor, wanted in zip(graph.outputs, GraphSession(graph, model, 1).run(x), strict=True):
            np.testing.assert_allclose(found[tensor.name], wanted, rtol=1e-4, atol=1e-5)


def test_a_leak_encoder_with_float16_convolutions_keeps_its_head_in_float32():
    spec = TINY_SPEC
    prototypes = RNG.standard_normal((3, spec.prototypes_per_class, spec.embedding_dim)).astype(np.float32)
    network = network_of(leak_encoder(spec, prototypes), "leak_encoder")
    x = RNG.standard_normal((2, 3, *spec.latent_shape)).astype(np.float32)
    half = Arithmetic(torch.float16, frozenset({"Conv"}))
    wanted, found = (run(TorchNetwork(network, "leak_encoder", a, device=CPU), x) for a in (Arithmetic(), half))
    for a, b in zip(wanted, found, strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(b, a, atol=2e-3 * max(1.0, np.abs(a).max()))
        assert np.abs(a - b).max() > 0


def test_values_are_freed_after_their_last_use():
    """A chain of a hundred layers never keeps more than a few values."""
    import weakref

    alive: list = []
    nodes = tuple(Node(operator="Relu", inputs=(f"x{i}",), outputs=(f"x{i + 1}",), attributes={}) for i in range(100))
    network = TorchNetwork(
        Network(input="x0", outputs=("x100",), nodes=nodes, tensors={}), "g", Arithmetic(), device=CPU
    )
    most = 0

    def watch(x):
        nonlocal most
        result = torch.relu(x)
        alive.append(weakref.ref(result))
        most = max(most, sum(one() is not None for one in alive))
        return result

    for step in network._steps:
        object.__setattr__(step, "run", watch)
    network(torch.zeros(3))
    assert len(alive) == 100
    assert most <= 2


def test_outputs_with_further_readers_are_kept():
    nodes = (
        Node(operator="Relu", inputs=("x",), outputs=("a",), attributes={}),
        Node(operator="Neg", inputs=("a",), outputs=("b",), attributes={}),
    )
    a, b = run(
        TorchNetwork(Network(input="x", outputs=("a", "b"), nodes=nodes, tensors={}), "g", Arithmetic(), device=CPU),
        np.float32([-1, 2]),
    )
    np.testing.assert_array_equal(a, -b)


def test_mismatched_shapes_raise_one_line_with_the_step():
    nodes = (Node(operator="Add", inputs=("x", "w"), outputs=("y",), attributes={}),)
    network = TorchNetwork(
        Network(input="x", outputs=("y",), nodes=nodes, tensors={"w": np.zeros(4, np.float32)}),
        "g",
        Arithmetic(),
        device=CPU,
    )
    with pytest.raises(ModelError, match=r"^g: torch can't run it, at Add y \(") as error:
        run(network, np.zeros(3, np.float32))
    assert "\n" not in str(error.value)


def test_weights_of_1_x_1_convolutions_are_channels_last_by_their_strides():
    """torch accepts any strides; cuDNN derives the layout of its result from them."""
    weight = np.ones((5, 3, 1, 1), np.float32)
    network = Network(
        input="x",
        outputs=("y",),
        nodes=(Node(operator="Conv", inputs=("x", "w"), outputs=("y",), attributes={"pads": (0, 0, 0, 0)}),),
        tensors={"w": weight},
    )
    made = TorchNetwork(network, "g", Arithmetic(), device=torch.device("cpu"), memory_format=torch.channels_last)
    assert made._weights["w"].stride() == (3, 1, 3, 3)
