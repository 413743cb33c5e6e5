"""The outputs of the leak encoder for a batch, the same on every backend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LeakOutputs:
    """The four outputs of a leak encoder, float32. B is the number of images, or images x draws before averaging."""

    scores: Array  # [B, K] class scores, before temperature
    embedding: Array  # [B, D]
    gates: Array  # [B, D] in (0, 1), pooled over steps like the embedding
    step_weights: Array  # [B, T], each row sums to 1

    @classmethod
    def concatenate(cls, parts: Sequence[LeakOutputs]) -> LeakOutputs:
        """Return the rows of all parts, at least one, in order."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def average_draws(self, draws: int) -> LeakOutputs:
        """Return the mean over the draws of each image: [B x draws, ...], sample-major, to [B, ...]."""
        if draws == 1:
            return self

        def mean(array: Array) -> Array:
            grouped = array.reshape(-1, draws, array.shape[1])
            return np.asarray(grouped.mean(axis=1, dtype=np.float64), np.float32)

        return LeakOutputs(mean(self.scores), mean(self.embedding), mean(self.gates), mean(self.step_weights))
