"""Whether calibration pictures are of the kind that the detector sees: layer by layer, beside validation images.

Ranges, correction and refit follow the pictures. A refit hides what wrong ranges do to the verdict on average, so the
gate alone lets an int8 variant through whose layers clip what faces make: the pictures are asked before anything is
fitted. The measure is Kolmogorov and Smirnov's distance of the magnitudes in each observed tensor of the VAE encoder:
at least that share of the values lies elsewhere. It needs no scale and knows no method.

Measured on LeakBench at 256 px, largest distance over the 22 observed tensors of its VAE encoder, from 256 validation
images or more (from 64 of them, 32 training images are up to 0.11 away, from 10 of them up to 0.18); beside it what
ranges of those pictures, taken by `percentile`, add to the error of int8 on faces in the worst layer:

| pictures                                                  | distance     | lost   |
| 32 training images, all classes; 300 draws                | up to 0.12   | 5 dB   |
| 256 training images, all classes; 300 draws               | up to 0.07   | 2 dB   |
| 32 images of one class, seen or not; 13 x 100 draws       | up to 0.16   | 5 dB   |
| photographs without faces (two, in tiles)                 | 0.25         | 5 dB   |
| noise of coloured spectra, smooth noise, gradients        | 0.34 to 0.42 | 8 to 23 dB |
| half faces, half noise                                    | 0.38         | 4 dB   |
| uniform noise; Gaussian noise; lines of text              | 0.78 to 0.97 | 11 to 46 dB |
| faces at 15 % of their brightness                         | 0.82         | 20 dB  |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import DataError
from .histogram import MagnitudeHistogram

MAX_SHIFT = 0.2
REFERENCE_IMAGES = 64  # validation images that calibration images are held against


@dataclass(frozen=True)
class Shift:
    """How far the values of calibration images lie from those of validation images."""

    share: float  # of one tensor's values, at least so many lie elsewhere; the largest over all tensors
    tensor: str  # the one where it is
    images: int  # validation images

    def require(self, limit: float, advice: str) -> None:
        """Raises DataError when it is over `limit`; `advice` says what to do."""
        if not self.share <= limit:
            raise DataError(
                f"the calibration images are not of the kind that the detector sees: {self.share:.0%} of the values in "
                f"{self.tensor} lie elsewhere than on validation images, at most {limit:.0%} may; {advice}"
            )

    def to_json(self, limit: float) -> dict[str, Any]:
        """What the manifest tells of it."""
        return {"share": self.share, "limit": limit, "tensor": self.tensor, "images": self.images}


def shift_of(
    found: Mapping[str, MagnitudeHistogram], reference: Mapping[str, MagnitudeHistogram], images: int
) -> Shift:
    """The largest distance of `found` from `reference`, over the same tensors of the same graph.

    `images` is the number that `reference` was counted on. Raises ValueError where there is no tensor.
    """
    distances = {name: distance(found[name], reference[name]) for name in reference}
    worst = max(distances, key=distances.__getitem__)
    return Shift(distances[worst], worst, images)


def distance(first: MagnitudeHistogram, second: MagnitudeHistogram) -> float:
    """Kolmogorov and Smirnov's: the largest difference of two cumulative shares, in 0 .. 1. Two empty ones are 0 apart.

    Taken at the bins' edges of the wider histogram.
    """
    limit = max(first.limit, second.limit)
    return float(np.abs(first.cumulative(limit) - second.cumulative(limit)).max())
