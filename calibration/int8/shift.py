"""The distance of calibration images from validation images, layer by layer.

Ranges, correction and refit depend on the calibration images. A refit hides the average effect of wrong ranges, so the
acceptance test alone would accept a variant whose layers clip values of faces. Therefore the images are checked before
anything is fitted. The measure is the Kolmogorov-Smirnov distance of the magnitudes in each observed tensor of the VAE
encoder: at least that share of the values differs. docs/figures.md has distances of several kinds of images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import DataError
from .histogram import MagnitudeHistogram

MAX_SHIFT = 0.2
REFERENCE_IMAGES = 64  # validation images for the comparison


@dataclass(frozen=True)
class Shift:
    """The distance of the values of calibration images from those of validation images."""

    share: float  # of the values of one tensor that differ, at least; the maximum over tensors
    tensor: str  # the tensor with that maximum
    images: int  # number of validation images

    def require(self, limit: float, advice: str) -> None:
        """Raise DataError if the share exceeds `limit`; `advice` says what to do."""
        if not self.share <= limit:
            raise DataError(
                f"the calibration images differ from the validation images: {self.share:.0%} of the values in "
                f"{self.tensor} differ from those of validation images (limit {limit:.0%}); {advice}"
            )

    def to_json(self, limit: float) -> dict[str, Any]:
        """A JSON object, as the manifest stores it."""
        return {"share": self.share, "limit": limit, "tensor": self.tensor, "images": self.images}


def shift_of(
    found: Mapping[str, MagnitudeHistogram], reference: Mapping[str, MagnitudeHistogram], images: int
) -> Shift:
    """Return the largest distance of `found` from `reference` over the tensors of a graph.

    `images`: the number of images in `reference`. Raises ValueError if there is no tensor.
    """
    distances = {name: distance(found[name], reference[name]) for name in reference}
    worst = max(distances, key=distances.__getitem__)
    return Shift(distances[worst], worst, images)


def distance(first: MagnitudeHistogram, second: MagnitudeHistogram) -> float:
    """Return the Kolmogorov-Smirnov distance, 0 to 1, at the bin edges of the wider histogram.

    Two empty histograms have distance 0.
    """
    limit = max(first.limit, second.limit)
    return float(np.abs(first.cumulative(limit) - second.cumulative(limit)).max())
