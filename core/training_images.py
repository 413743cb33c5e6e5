"""A bundle's record of the images that a detector was trained and fitted on: `training_images.npz`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import read_npz, write_npz
from .errors import BundleError

MAX_FILE_BYTES = 256 << 20
_DIGITS = 16  # hex digits kept of a hash: a false match among 10^6 images has a probability below 10^-7
_LOOK_BYTES = 32

Prefixes = npt.NDArray[np.uint64]


def _no_prefixes() -> Prefixes:
    return np.empty(0, np.uint64)


@dataclass(frozen=True)
class TrainingImages:
    """Image hashes: the first 8 bytes of the SHA-256 over shape and decoded pixels, and perceptual hashes."""

    prefixes: Prefixes  # [N] of the training images, sorted, without duplicates
    validation: Prefixes = field(default_factory=_no_prefixes)  # [M] of the images that the thresholds were fitted on
    looks: tuple[str, ...] = ()  # perceptual hashes of the training images, 64 hex digits each

    @classmethod
    def of(cls, hashes: Iterable[str], *, validation: Iterable[str] = (), looks: Iterable[str] = ()) -> TrainingImages:
        """Create a record from SHA-256 and perceptual hashes in hex. Empty perceptual hashes are omitted."""
        trained, fitted = (np.unique(_prefixes(list(given))) for given in (hashes, validation))
        return cls(trained, fitted, tuple(sorted({look for look in looks if look})))

    def contains(self, hashes: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return bool [len(hashes)]: whether the detector was trained on each image."""
        return np.isin(_prefixes(hashes), self.prefixes)

    def fitted_on(self, hashes: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return bool [len(hashes)]: whether the thresholds were fitted on each image."""
        return np.isin(_prefixes(hashes), self.validation)

    def to_bytes(self) -> bytes:
        """Return the bytes of `training_images.npz`."""
        looks = np.frombuffer(bytes.fromhex("".join(self.looks)), np.uint8).reshape(-1, _LOOK_BYTES)
        arrays: dict[str, npt.NDArray[Any]] = {"pixels": self.prefixes}
        if len(self.validation):
            arrays["validation"] = self.validation
        if len(looks):
            arrays["looks"] = looks
        return write_npz(arrays)

    @classmethod
    def from_bytes(cls, data: bytes) -> TrainingImages:
        """Read the bytes that `to_bytes` returned. Older bundles lack validation and looks. Raises BundleError."""
        if len(data) > MAX_FILE_BYTES:
            raise BundleError(f"training_images.npz is larger than {MAX_FILE_BYTES >> 20} MiB; export the bundle again")
        arrays = read_npz(data, "training_images.npz")
        pixels, validation = arrays.get("pixels", np.empty(0)), arrays.get("validation", _no_prefixes())
        looks = arrays.get("looks", np.empty((0, _LOOK_BYTES), np.uint8))
        for name, found in (("pixels", pixels), ("validation", validation)):
            if found.dtype != np.uint64 or found.ndim != 1:
                raise BundleError(f"training_images.npz: {name} is not a uint64 vector; export the bundle again")
        if looks.dtype != np.uint8 or looks.shape[1:] != (_LOOK_BYTES,):
            raise BundleError(f"training_images.npz: looks is not uint8 [N, {_LOOK_BYTES}]; export the bundle again")
        return cls(pixels, validation, tuple(row.tobytes().hex() for row in looks))


def _prefixes(hashes: Sequence[str]) -> Prefixes:
    return np.array([int(digest[:_DIGITS], 16) for digest in hashes], np.uint64)
