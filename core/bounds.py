"""Plausible ranges of a variant's outputs. A value outside them is a fault of the hardware or the graph.

Bounds come from validation images and are widened by a margin. They catch outputs that are finite but wrong: a clamped
FP16 overflow, a saturated int8 scale, a graph that returns zeros.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BundleError
from .outputs import LeakOutputs

MARGIN = 4.0  # on the largest latent and embedding, and on the smallest latent RMS, of the validation images
RMS_MARGIN = 2.0  # on the largest RMS of a latent: a saturated latent has three to five times its usual RMS
SCORE_MARGIN = MARGIN**2  # scores are squared distances
EDGE_FLOOR = 0.1  # a latent with at most this share of its values at its two extremes never counts as saturated

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits on the outputs for one image. A latent is float32 [C, S/8, S/8], scaled.

    The defaults apply to a bundle that states no bounds. They only reject latents that no VAE produces: scaled latents
    have a magnitude of about 1.
    """

    latent: float = 1e4  # largest magnitude
    latent_rms_low: float = 0.0
    latent_rms_high: float = math.inf
    latent_edge: float = 0.9  # largest share of a latent's values that equal its maximum or minimum
    embedding: float = math.inf  # largest magnitude
    scores: float = math.inf  # largest magnitude, before temperature

    def fault(self, latent: Array, outputs: LeakOutputs, row: int) -> str:
        """Return why the latent or row `row` of the averaged outputs is implausible; empty if it is plausible."""
        return self._latent_fault(latent) or self._output_fault(outputs, row)

    def _latent_fault(self, latent: Array) -> str:
        largest, rms, edge = _measure(latent)
        if not math.isfinite(largest):
            return "the VAE encoder returned a value that is not finite"
        if largest > self.latent:
            return f"the VAE encoder returned a latent of magnitude {largest:.3g}, above {self.latent:.3g}"
        if not self.latent_rms_low <= rms <= self.latent_rms_high:
            allowed = f"{self.latent_rms_low:.3g} to {self.latent_rms_high:.3g}"
            return f"the VAE encoder returned a latent of RMS {rms:.3g}, outside {allowed}"
        if edge > self.latent_edge:
            return f"the VAE encoder returned a saturated latent: {edge:.0%} of its values are at its extremes"
        return ""

    def _output_fault(self, outputs: LeakOutputs, row: int) -> str:
        scores, embedding, gates, weights = (
            float(np.abs(part[row]).max())
            for part in (outputs.scores, outputs.embedding, outputs.gates, outputs.step_weights)
        )
        if not all(map(math.isfinite, (scores, embedding, gates, weights))):
            return "the leak encoder returned a value that is not finite"
        if embedding > self.embedding:
            return f"the leak encoder returned an embedding of magnitude {embedding:.3g}, above {self.embedding:.3g}"
        if scores > self.scores:
            return f"the leak encoder returned scores of magnitude {scores:.3g}, above {self.scores:.3g}"
        return ""

    def to_json(self) -> dict[str, float] | None:
        """Return a JSON object with one entry per field; None if no bounds are stated."""
        return None if self == UNSTATED else asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Bounds:
        """Read the object that `to_json` returned. Raises BundleError."""
        if data is None:
            return UNSTATED
        fields = cls.__dataclass_fields__
        if not isinstance(data, dict) or data.keys() != fields.keys():
            names = ", ".join(fields)
            raise BundleError(f"decision: bounds must have exactly the fields {names}; export the bundle again")
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v < 1e39 for v in data.values()):
            raise BundleError("decision: every bound must be finite and not negative; export the bundle again")
        return cls(**{name: float(value) for name, value in data.items()})


UNSTATED = Bounds()


def observe(latents: Array, outputs: LeakOutputs) -> Bounds:
    """Compute bounds from the latents, float32 [N, C, S/8, S/8], and averaged outputs of N >= 1 validation images.

    Raises BundleError if a value is not finite.
    """
    if not all(np.isfinite(part).all() for part in (latents, outputs.scores, outputs.embedding)):
        raise BundleError("the variant can't be exported: it returns values that are not finite on validation images")
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
    """Return the largest magnitude, the RMS, and the share of values that equal the maximum or minimum.

    The magnitude is not finite if any value is not. This runs on every frame, so it makes few passes over the data.
    """
    low, high = latent.min(), latent.max()  # NaN if any value is NaN
    largest = max(abs(float(low)), abs(float(high))) if low <= high else math.nan
    edge = np.count_nonzero(latent == low) + (np.count_nonzero(latent == high) if low < high else 0)
    flat = latent.reshape(-1)
    return largest, math.sqrt(float(np.einsum("i,i->", flat, flat)) / flat.size), edge / flat.size
