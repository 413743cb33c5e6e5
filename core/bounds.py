"""How large a variant's outputs may be: what lies beyond is a fault of the machine or the graph, not a face.

Bounds are taken from validation images and widened by a stated margin. They catch what is finite and yet absurd: an
FP16 overflow that was clamped, an int8 scale that saturates, a graph that gives zeros.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BundleError
from .outputs import LeakOutputs

MARGIN = 4.0  # of the largest latent and embedding, and under the smallest latent, over what validation images gave
RMS_MARGIN = 2.0  # of the largest RMS of a latent: saturated ones stand at three to five times their usual RMS
SCORE_MARGIN = MARGIN**2  # scores are squared distances
EDGE_FLOOR = 0.1  # share of a latent's values at its two extremes that is never called saturated

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What one image may give. A latent is float32 [4, S/8, S/8], scaled.

    The defaults are for a bundle that states none: they refuse what no VAE gives, whose scaled latents are about 1.
    """

    latent: float = 1e4  # largest magnitude
    latent_rms_low: float = 0.0
    latent_rms_high: float = math.inf
    latent_edge: float = 0.9  # largest share of a latent's values that equal its largest or its smallest
    embedding: float = math.inf  # largest magnitude
    scores: float = math.inf  # largest magnitude, before temperature

    def fault(self, latent: Array, outputs: LeakOutputs, row: int) -> str:
        """Why image `row` of averaged outputs, with its latent, can't be believed; empty when it can."""
        return self._latent_fault(latent) or self._output_fault(outputs, row)

    def _latent_fault(self, latent: Array) -> str:
        largest, rms, edge = _measure(latent)
        if not math.isfinite(largest):
            return "the VAE encoder gave a value that is not finite"
        if largest > self.latent:
            return f"the VAE encoder gave a latent of magnitude {largest:.3g}, beyond {self.latent:.3g}"
        if not self.latent_rms_low <= rms <= self.latent_rms_high:
            allowed = f"{self.latent_rms_low:.3g} to {self.latent_rms_high:.3g}"
            return f"the VAE encoder gave a latent of RMS {rms:.3g}, outside {allowed}"
        if edge > self.latent_edge:
            return f"the VAE encoder gave a latent with {edge:.0%} of its values at its extremes, as if saturated"
        return ""

    def _output_fault(self, outputs: LeakOutputs, row: int) -> str:
        scores, embedding, gates, weights = (
            float(np.abs(part[row]).max())
            for part in (outputs.scores, outputs.embedding, outputs.gates, outputs.step_weights)
        )
        if not all(map(math.isfinite, (scores, embedding, gates, weights))):
            return "the leak encoder gave a value that is not finite"
        if embedding > self.embedding:
            return f"the leak encoder gave an embedding of magnitude {embedding:.3g}, beyond {self.embedding:.3g}"
        if scores > self.scores:
            return f"the leak encoder gave scores of magnitude {scores:.3g}, beyond {self.scores:.3g}"
        return ""

    def to_json(self) -> dict[str, float] | None:
        """A JSON object with one entry a field; null where none are stated."""
        return None if self == UNSTATED else asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Bounds:
        """Read what `to_json` wrote. Raises BundleError."""
        if data is None:
            return UNSTATED
        fields = cls.__dataclass_fields__
        if not isinstance(data, dict) or data.keys() != fields.keys():
            raise BundleError(f"decision: bounds hold {', '.join(fields)}, no others")
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v < 1e39 for v in data.values()):
            raise BundleError("decision: every bound is a finite number that is not negative")
        return cls(**{name: float(value) for name, value in data.items()})


UNSTATED = Bounds()


def observe(latents: Array, outputs: LeakOutputs) -> Bounds:
    """Bounds from latents float32 [N, 4, S/8, S/8] and averaged outputs of N validation images, N at least 1.

    Raises BundleError when one of them is not finite.
    """
    if not all(np.isfinite(part).all() for part in (latents, outputs.scores, outputs.embedding)):
        raise BundleError("the variant gives values that are not finite on validation images; it can't be shipped")
    largest, rms, edge = (np.array(column) for column in zip(*map(_measure, latents), strict=True))
    return Bounds(
        latent=MARGIN * float(largest.max()),
        latent_rms_low=float(rms.min()) / MARGIN,
        latent_rms_high=RMS_MARGIN * float(rms.max()),
        latent_edge=max(MARGIN * float(edge.max()), EDGE_FLOOR),
        embedding=MARGIN * float(np.abs(outputs.embedding).max()),
        scores=SCORE_MARGIN * float(np.abs(outputs.scores).max()),
    )


def _measure(latent: Array) -> tuple[float, float, float]:
    """Largest magnitude, RMS, and the share of values that equal the largest or the smallest.

    The magnitude is not finite where a value is not. Every frame is measured, so in few passes over it.
    """
    low, high = latent.min(), latent.max()  # NaN where there is one
    largest = max(abs(float(low)), abs(float(high))) if low <= high else math.nan
    edge = np.count_nonzero(latent == low) + (np.count_nonzero(latent == high) if low < high else 0)
    flat = latent.reshape(-1)
    return largest, math.sqrt(float(np.einsum("i,i->", flat, flat)) / flat.size), edge / flat.size
