"""The tensor names and shapes that a graph must have."""

from __future__ import annotations

import pytest

from leakrt.core.errors import ModelError
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.core.spec import ModelSpec

SPEC = ModelSpec(class_names=("real", "gan"), real_class="real", image_size=64, timesteps=(0, 5, 9), embedding_dim=7)
VAE, LEAK = vae_encoder_graph(SPEC), leak_encoder_graph(SPEC)
IMAGE, LATENT = ("image", ["batch", 3, 64, 64]), ("latent", ["batch", 4, 8, 8])


def test_the_graphs_follow_the_spec():
    assert str(VAE.input) == "image [B, 3, 64, 64]"
    assert [str(t) for t in VAE.outputs] == ["latent [B, 4, 8, 8]"]
    assert str(LEAK.input) == "noised [B, 3, 4, 8, 8]"
    assert [str(t) for t in LEAK.outputs] == [
        "scores [B, 2]",
        "embedding [B, 7]",
        "gates [B, 7]",
        "step_weights [B, 3]",
    ]


@pytest.mark.parametrize("batch", ["batch", None])
@pytest.mark.parametrize("rest", [[4, 8, 8], ["c", None, None], [4, None, 8]])  # outputs may be dynamic
def test_a_matching_graph_passes_and_one_wrong_dimension_fails(batch, rest):
    VAE.check_declared([("image", [batch, 3, 64, 64])], [("latent", [batch, *rest])])
    for place in range(3):
        with pytest.raises(ModelError, match="latent has shape"):
            VAE.check_declared([IMAGE], [("latent", [batch, *rest[:place], 5, *rest[place + 1 :]])])


def test_a_result_passes_only_at_its_batch():
    VAE.check_shape(VAE.outputs[0], (5, 4, 8, 8), 5)
    with pytest.raises(ModelError, match=r"expected latent \[B, 4, 8, 8\] with B = 4$"):
        VAE.check_shape(VAE.outputs[0], (5, 4, 8, 8), 4)


@pytest.mark.parametrize(
    ("inputs", "outputs", "why"),
    [
        ([("input", IMAGE[1])], [LATENT], r"the inputs are \['input'\], expected image"),
        ([IMAGE, ("mask", ["b"])], [LATENT], r"the inputs are \['image', 'mask'\]"),
        ([IMAGE], [("z", LATENT[1])], r"the outputs are \['z'\], expected latent"),
        (
            [("image", ["b", 3, 32, 32])],
            [LATENT],
            r"image .* \['b', 3, 32, 32\], expected image \[B, 3, 64, 64\]",
        ),
        ([("image", ["b", 3, "h", "w"])], [LATENT], "image has shape"),
        ([("image", [1, 3, 64, 64])], [LATENT], "image has shape"),
        ([IMAGE], [("latent", ["b", 16, 8, 8])], r"latent has shape \['b', 16, 8, 8\], expected latent \[B, 4, 8, 8\]"),
        ([IMAGE], [("latent", ["b", 4, 8])], "latent has shape"),
    ],
)
def test_a_mismatch_is_named_with_graph_tensor_and_shape(inputs, outputs, why):
    with pytest.raises(ModelError, match=f"^vae_encoder: {why}"):
        VAE.check_declared(inputs, outputs)


def test_a_result_of_another_shape_is_named():
    with pytest.raises(
        ModelError, match=r"^leak_encoder: scores has shape \[2, 3\], expected scores \[B, 2\] with B = 2$"
    ):
        LEAK.check_shape(LEAK.outputs[0], (2, 3), 2)
