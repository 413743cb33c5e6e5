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


def test_what_is_recorded_is_found_again_and_nothing_else():
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


@pytest.mark.parametrize("data", [b"", b"no npz", write_npz({"x": np.zeros(3)}), write_npz({"pixels": np.zeros(3)})])
def test_what_is_no_record_is_refused(data):
    with pytest.raises(BundleError, match=r"training_images\.npz"):
        TrainingImages.from_bytes(data)
