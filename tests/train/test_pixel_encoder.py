"""The pixel encoder: what its first layer computes, and that the exported form computes the same."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as functional

from leakrt.train.pixel_encoder import HighPassConv, PixelEncoder


def by_steps(layer: HighPassConv, image):
    """The first layer as it is described: high-pass, pixel-unshuffle, 3 x 3 convolution, on an image padded by 3."""
    laplacian = torch.tensor([[0.0, -1, 0], [-1, 4, -1], [0, -1, 0]]) * 2
    squared = torch.tensor([[-1.0, 2, -1], [2, -4, 2], [-1, 2, -1]])
    padded = functional.pad(image, (3, 3, 3, 3))
    planes = [functional.conv2d(padded[:, c : c + 1], k[None, None]) for c in range(3) for k in (laplacian, squared)]
    return functional.conv2d(functional.pixel_unshuffle(torch.cat(planes, dim=1), 2), layer.weight)


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 40, 24)])
def test_the_first_layer_is_the_product_of_its_three_linear_steps(shape):
    torch.manual_seed(0)
    layer, image = HighPassConv(5), torch.rand(shape) * 2 - 1
    expected = by_steps(layer, image)
    assert layer(image).shape == (shape[0], 5, shape[2] // 2, shape[3] // 2) == expected.shape
    torch.testing.assert_close(layer(image), expected, atol=2e-5, rtol=1e-5)


def test_a_ramp_leaves_no_trace_away_from_the_border():
    layer = HighPassConv(4)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-0.5, 0.5, 32), indexing="ij")
    found = layer((0.3 * y + x).expand(1, 3, 32, 32))
    assert found[:, :, 3:-3, 3:-3].abs().max() < 1e-5
    assert found.abs().max() > 0.1, "the border itself is seen"


def test_the_folded_encoder_gives_the_same_channels():
    torch.manual_seed(1)
    encoder, image = PixelEncoder(7), torch.rand(2, 3, 32, 32) * 2 - 1
    for _ in range(3):
        encoder(image)  # moves the batch norms from their initial statistics
    encoder.eval()
    with torch.inference_mode():
        torch.testing.assert_close(encoder.folded()(image), encoder(image), atol=1e-5, rtol=1e-5)
        assert encoder(image).shape == (2, 7, 4, 4)
