"""The record of training images in a bundle."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from leakrt.core.arrays import write_npz
from leakrt.core.bundle import TRAINING_NAME, Bundle, write_bundle
from leakrt.core.errors import BundleError
from leakrt.core.training_images import TrainingImages

HASHES = [hashlib.sha256(bytes([i])).hexdigest() for i in range(40)]


def test_only_recorded_images_are_found():
    made = TrainingImages.from_bytes(TrainingImages.of([*HASHES[:30], HASHES[0]]).to_bytes())
    assert made.contains(HASHES).tolist() == [True] * 30 + [False] * 10
    assert len(made.to_bytes()) < 30 * 8 + 400
    assert TrainingImages.of([]).contains(HASHES[:2]).tolist() == [False, False]
    assert made.contains([]).tolist() == []


def test_a_bundle_may_hold_the_record(tiny, tmp_path):
    old = Bundle(tiny)
    assert old.training_images() is None
    files = {name: old.read(name) for name in old.file_sizes}
    write_bundle(
        tmp_path / "b", old.spec, {**files, TRAINING_NAME: TrainingImages.of(HASHES).to_bytes()}, provenance={}
    )
    found = Bundle(tmp_path / "b").training_images()
    assert found is not None
    assert found.contains(HASHES).all()


PIXELS = np.zeros(1, np.uint64)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no npz",
        write_npz({"x": np.zeros(3)}),
        write_npz({"pixels": np.zeros(3)}),
        write_npz({"pixels": PIXELS, "validation": np.zeros((2, 2), np.uint64)}),
        write_npz({"pixels": PIXELS, "looks": np.zeros((2, 31), np.uint8)}),
    ],
)
def test_an_invalid_record_is_rejected(data):
    with pytest.raises(BundleError, match=r"training_images\.npz"):
        TrainingImages.from_bytes(data)


def test_validation_images_and_looks_are_kept_and_older_records_have_none():
    looks = [HASHES[0], "", HASHES[1]]
    made = TrainingImages.from_bytes(TrainingImages.of(HASHES[:2], validation=HASHES[2:4], looks=looks).to_bytes())
    assert made.fitted_on(HASHES[:5]).tolist() == [False, False, True, True, False]
    assert made.looks == tuple(sorted([HASHES[0], HASHES[1]]))
    old = TrainingImages.from_bytes(write_npz({"pixels": made.prefixes}))
    assert (old.looks, len(old.validation)) == ((), 0)
