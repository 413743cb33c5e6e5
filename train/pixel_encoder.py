"""The pixel encoder: an image to R channels at an eighth of its size, from high-passed pixels.

A VAE encoder that downsamples by 8 discards traces that pixels hold. This encoder is trained together with the step
encoder of its branch. Its channels take the same way as the VAE's latents: forward diffusion, step encoder, attention,
prototypes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

_WIDTHS = (32, 48, 64)
_GAIN = 4.0  # high-passed pixels of a photograph have a deviation of about a quarter
_KERNEL, _PADDING = 8, 3  # of the folded first layer


class HighPassConv(nn.Module):
    """Two fixed high-pass kernels per colour, pixel-unshuffle by 2 and a 3 x 3 convolution, as one 8 x 8 convolution.

    All three are linear, so their product is a convolution of 3 to `outputs` channels with stride 2. Only the 3 x 3
    kernel is learned, so that no weight can respond to a constant or a linear ramp. The image is padded with zeros,
    which is mid-grey.
    """

    basis: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("basis", _basis(), persistent=False)  # [24, 3, 4, 4]
        self.weight = nn.Parameter(torch.empty(outputs, len(self.basis), 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def kernel(self) -> Tensor:
        """Return the folded kernel, float32 [outputs, 3, 8, 8]."""
        parts = torch.einsum("okyx,kcij->yxocij", self.weight, self.basis)
        shifted = [
            functional.pad(parts[y, x], (2 * x, 4 - 2 * x, 2 * y, 4 - 2 * y)) for y in range(3) for x in range(3)
        ]
        return torch.stack(shifted).sum(dim=0)

    def forward(self, image: Tensor) -> Tensor:
        """Map an image [B, 3, S, S] to [B, outputs, S/2, S/2]."""
        kernel = self.kernel().contiguous(memory_format=torch.channels_last)
        return functional.conv2d(image, kernel, stride=2, padding=_PADDING)


class PixelEncoder(nn.Module):
    """image float32 [B, 3, S, S], RGB in [-1, 1], to [B, R, S/8, S/8], of unit variance over the training images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second, third = _WIDTHS
        self.first: nn.Module = HighPassConv(first)
        self.rest = nn.Sequential(
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, 2, 1, bias=False),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, 2, 1, bias=False),
            nn.BatchNorm2d(third),
            nn.ReLU(),
            nn.Conv2d(third, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=False),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Encode images; S is a multiple of 8."""
        return self.rest(self.first(image))  # type: ignore[no-any-return]

    def folded(self) -> nn.Module:
        """Return the encoder for export, in evaluation mode: its first layer is one convolution with a constant kernel.

        The parameters are shared with this encoder, except for that kernel.
        """
        assert isinstance(self.first, HighPassConv)
        conv = nn.Conv2d(3, _WIDTHS[0], _KERNEL, 2, _PADDING, bias=False)
        conv.weight = nn.Parameter(self.first.kernel().detach().contiguous())
        return nn.Sequential(conv, self.rest).eval()


def _basis() -> Tensor:
    """Return the 4 x 4 kernels of the 24 channels after the pixel-unshuffle, float32 [24, 3, 4, 4]."""
    laplacian = torch.tensor([[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]) / 2
    squared = torch.tensor([[-1.0, 2.0, -1.0], [2.0, -4.0, 2.0], [-1.0, 2.0, -1.0]]) / 4
    basis = torch.zeros(3, 2, 2, 2, 3, 4, 4)  # colour, kernel, row and column of the 2 x 2 block, then the kernel
    for colour in range(3):
        for index, kernel in enumerate((laplacian, squared)):
            for row in range(2):
                for column in range(2):
                    basis[colour, index, row, column, colour, row : row + 3, column : column + 3] = _GAIN * kernel
    return basis.reshape(24, 3, 4, 4)
