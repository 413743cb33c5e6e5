"""Which images a detector was trained on, as a bundle records it: `training_images.npz`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arrays import read_npz, write_npz
from .errors import BundleError

MAX_FILE_BYTES = 256 << 20
_DIGITS = 16  # hex digits of a hash that are kept: among 10^6 images a wrong match has a chance of 10^-7 an image


@dataclass(frozen=True)
class TrainingImages:
    """The first 8 bytes of the SHA-256 over each training image's shape and decoded pixels."""

    prefixes: npt.NDArray[np.uint64]  # [N] sorted, no two the same

    @classmethod
    def of(cls, hashes: Iterable[str]) -> TrainingImages:
        """From SHA-256 hashes in hex."""
        return cls(np.unique(_prefixes(list(hashes))))

    def contains(self, hashes: Sequence[str]) -> npt.NDArray[np.bool_]:
        """[len(hashes)] whether each was trained on."""
        return np.isin(_prefixes(hashes), self.prefixes)

    def to_bytes(self) -> bytes:
        """The npz file."""
        return write_npz({"pixels": self.prefixes})

    @classmethod
    def from_bytes(cls, data: bytes) -> TrainingImages:
        """Read what `to_bytes` wrote. Raises BundleError."""
        if len(data) > MAX_FILE_BYTES:
            raise BundleError(f"training_images.npz has more than {MAX_FILE_BYTES >> 20} MiB; export the bundle again")
        found = read_npz(data, "training_images.npz").get("pixels", np.empty(0))
        if found.dtype != np.uint64 or found.ndim != 1:
            raise BundleError("training_images.npz: pixels is not a uint64 vector; export the bundle again")
        return cls(found)


def _prefixes(hashes: Sequence[str]) -> npt.NDArray[np.uint64]:
    return np.array([int(digest[:_DIGITS], 16) for digest in hashes], np.uint64)
