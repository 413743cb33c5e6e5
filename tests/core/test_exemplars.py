"""Thumbnails of training images: bounded, in order, without pickle."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt.core.arrays import write_npz
from leakrt.core.errors import BundleError
from leakrt.core.exemplars import MAX_PER_PROTOTYPE, MAX_THUMBNAIL_BYTES, Exemplars


def test_thumbnails_round_trip_in_order():
    exemplars = Exemplars({(3, 0): (b"first", b"second", b"third"), (0, 11): (b"x",)})
    again = Exemplars.from_bytes(exemplars.to_bytes())
    assert again == exemplars
    assert again.of(3, 0) == (b"first", b"second", b"third")


def test_a_prototype_without_thumbnails_has_none():
    assert Exemplars.from_bytes(Exemplars({}).to_bytes()).of(1, 2) == ()


@pytest.mark.parametrize(
    ("thumbnails", "why"),
    [
        ({(0, 1000): (b"x",)}, "outside 0 to 999"),
        ({(-1, 0): (b"x",)}, "outside 0 to 999"),
        ({(0, 0): (b"x",) * (MAX_PER_PROTOTYPE + 1)}, "17 thumbnails; at most 16"),
        ({(0, 0): (b"x" * (MAX_THUMBNAIL_BYTES + 1),)}, "larger than 64 KiB"),
        ({(0, 0): (b"",)}, "empty"),
    ],
)
def test_the_limits_of_the_format_are_enforced(thumbnails, why):
    with pytest.raises(BundleError, match=why):
        Exemplars(thumbnails)


@pytest.mark.parametrize(
    "arrays",
    [
        {"0/0": np.uint8([1])},
        {"../0/0": np.uint8([1])},
        {"0/0/0": np.float32([1])},
        {"0/0/0": np.uint8([[1]])},
        {"0/0/0/0": np.uint8([1])},
    ],
)
def test_other_arrays_are_rejected(arrays):
    with pytest.raises(BundleError, match="is not a thumbnail"):
        Exemplars.from_bytes(write_npz(arrays))
