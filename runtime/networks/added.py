"""What a fused norm adds to its image before it norms it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Added:
    """x + other + shift is what is normed. `keep`: whether somebody else reads that sum, too."""

    other: Tensor | None = None  # like x
    shift: Tensor | None = None  # float32 [C]
    keep: bool = False


NOTHING = Added()
