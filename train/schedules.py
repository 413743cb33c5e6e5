"""The one-cycle learning-rate schedule as a function of the step, so that a resumed run needs no schedule state."""

from __future__ import annotations

import math
from dataclasses import dataclass

_START, _END = 1 / 25, 1 / 25e4  # of the peak, as in Smith & Topin (2019)
_BETA_HIGH, _BETA_LOW = 0.95, 0.85  # momentum falls while the rate rises


@dataclass(frozen=True)
class OneCycle:
    """Cosine up to the peak over the first `warmup_share` of all steps, cosine down over the rest."""

    peak: float
    total_steps: int
    warmup_share: float

    def at(self, step: int) -> tuple[float, float]:
        """(learning rate, beta 1) of AdamW at `step`, which counts from 0."""
        turn = max(1.0, self.warmup_share * self.total_steps - 1)
        last = max(turn + 1, self.total_steps - 1.0)
        if step <= turn:
            share = step / turn
            return _between(_START, 1.0, share) * self.peak, _between(_BETA_HIGH, _BETA_LOW, share)
        share = min(1.0, (step - turn) / (last - turn))
        return _between(1.0, _END, share) * self.peak, _between(_BETA_LOW, _BETA_HIGH, share)


def _between(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
