"""Exemplars: thumbnails of the training images nearest to each prototype (`exemplars.npz`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .arrays import read_npz, write_npz
from .errors import BundleError

MAX_FILE_BYTES = 64 << 20
MAX_THUMBNAIL_BYTES = 64 << 10
MAX_PER_PROTOTYPE = 16

_NAME = re.compile(r"(\d{1,3})/(\d{1,3})/(\d{1,2})")


@dataclass(frozen=True)
class Exemplars:
    """JPEG thumbnails of the training images nearest to each prototype, nearest first.

    The file holds each thumbnail as a uint8 [bytes] array named "CLASS_INDEX/PROTOTYPE_INDEX/RANK". Raises BundleError
    for indices, counts or sizes beyond the limits of the format.
    """

    thumbnails: Mapping[tuple[int, int], tuple[bytes, ...]]  # (class index, prototype index) to JPEG files

    def __post_init__(self) -> None:
        for (k, m), files in self.thumbnails.items():
            where = f"exemplars of {k}/{m}"
            if not (0 <= k < 1000 and 0 <= m < 1000):
                raise BundleError(f"{where}: an index is outside 0 to 999")
            if len(files) > MAX_PER_PROTOTYPE:
                raise BundleError(f"{where}: {len(files)} thumbnails; at most {MAX_PER_PROTOTYPE} are allowed")
            if any(not file or len(file) > MAX_THUMBNAIL_BYTES for file in files):
                raise BundleError(f"{where}: a thumbnail is empty or larger than {MAX_THUMBNAIL_BYTES >> 10} KiB")

    def of(self, class_index: int, prototype: int) -> tuple[bytes, ...]:
        """Return the JPEG files of one prototype; empty if there are none."""
        return self.thumbnails.get((class_index, prototype), ())

    def to_bytes(self) -> bytes:
        """Return the bytes of `exemplars.npz`. Raises BundleError if they exceed 64 MiB."""
        arrays = {
            f"{k}/{m}/{rank}": np.frombuffer(file, np.uint8)
            for (k, m), files in sorted(self.thumbnails.items())
            for rank, file in enumerate(files)
        }
        data = write_npz(arrays)
        if len(data) > MAX_FILE_BYTES:
            raise BundleError(f"exemplars.npz would exceed {MAX_FILE_BYTES >> 20} MiB; keep fewer or smaller ones")
        return data

    @classmethod
    def from_bytes(cls, data: bytes) -> Exemplars:
        """Read the bytes that `to_bytes` returned, without decoding the JPEG files. Raises BundleError."""
        if len(data) > MAX_FILE_BYTES:
            raise BundleError(f"exemplars.npz is larger than {MAX_FILE_BYTES >> 20} MiB; export the bundle again")
        ranked: dict[tuple[int, int], dict[int, bytes]] = {}
        for name, array in read_npz(data, "exemplars.npz").items():
            match = _NAME.fullmatch(name)
            if match is None or array.dtype != np.uint8 or array.ndim != 1:
                raise BundleError(f"exemplars.npz: {name!r} is not a thumbnail; export the bundle again")
            k, m, rank = (int(group) for group in match.groups())
            ranked.setdefault((k, m), {})[rank] = array.tobytes()
        return cls({key: tuple(files[rank] for rank in sorted(files)) for key, files in ranked.items()})
