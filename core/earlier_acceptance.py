"""The acceptance rule of manifests whose records hold no `changes`: they are held to the limits that they state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .acceptance import Comparison


@dataclass(frozen=True, kw_only=True)
class EarlierLimits:
    """Limits on macro AUC, labels and false alarms, without a limit on verdicts."""

    max_drop: float  # of macro AUC
    min_agreement: float  # of labels
    confident_only: bool  # measure agreement only on images whose fp32 margin is above the median
    spare: int  # images that may always disagree

    def failures(self, found: Comparison) -> tuple[str, ...]:
        """Return why a comparison fails these limits; empty if it passes."""
        agreement = found.agreement_confident if self.confident_only else found.agreement
        where = "images with a margin above the median" if self.confident_only else "all images"
        reasons = list(found.lost(self.max_drop))
        spared = self.spare > 0 and (1.0 - agreement) * found.images < self.spare + 0.5
        if not (agreement >= self.min_agreement or spared):
            reasons.append(f"{agreement:.2%} of labels agree on {where}, less than {self.min_agreement:.1%}")
        return (*reasons, *found.alarmed())


EARLIER_FP16_LIMITS = EarlierLimits(max_drop=0.0005, min_agreement=0.999, confident_only=False, spare=1)
EARLIER_LIMITS: Mapping[str, EarlierLimits] = {
    "fp32": EARLIER_FP16_LIMITS,
    "fp16": EARLIER_FP16_LIMITS,
    "int8": EarlierLimits(max_drop=0.002, min_agreement=0.99, confident_only=True, spare=0),
}
