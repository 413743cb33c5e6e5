"""A variant whose golden scores differ from the bundle's raises at load."""

from __future__ import annotations

import json

import numpy as np
import pytest

from leakrt import Detector
from leakrt.core.bundle import Bundle, Golden, write_bundle
from leakrt.core.errors import BundleError, ParityError


@pytest.fixture
def changed(tiny, tmp_path):
    """Write the tiny bundle with other golden scores or another tolerance."""

    def write(scores=lambda s: s, tolerance=None):
        source = Bundle(tiny)
        files = {name: source.read(name) for name in source.file_sizes}
        golden = source.golden()
        moved = {p: np.float32(scores(v)) for p, v in golden.scores.items() if scores(v) is not None}
        files["golden.npz"] = Golden(golden.image, moved, golden.embedding).to_bytes()
        if tolerance is not None:
            block = json.loads(files["decision.json"])
            block["fp32"]["tolerance"] = tolerance
            files["decision.json"] = json.dumps(block).encode()
        write_bundle(tmp_path / "b", source.spec, files, provenance={})
        return tmp_path / "b"

    return write


def test_a_variant_with_equal_scores_loads(changed):
    assert Detector.load(changed()).spec.image_size == 40


def test_scores_beyond_the_tolerance_raise_with_both_numbers(changed):
    path = changed(lambda s: s + np.array([0, 0.01, 0], np.float32))
    with pytest.raises(
        ParityError, match=r"fp32 on onnxruntime changes the golden image's scores by 0\.01.*tolerance of 0\.0001"
    ):
        Detector.load(path)


def test_scores_within_the_stated_tolerance_load(changed):
    assert Detector.load(changed(lambda s: s + np.array([0, 0.01, 0], np.float32), {"onnxruntime": 0.02}))


def test_the_default_tolerance_is_a_ten_thousandth_of_the_largest_score(changed):
    assert Detector.load(changed(lambda s: s + np.array([0, 5e-5, 0], np.float32), {}))
    with pytest.raises(ParityError, match="changes the golden image's scores"):
        Detector.load(changed(lambda s: s + np.array([0, 1e-2, 0], np.float32), {}))


def test_nan_raises(changed):
    with pytest.raises(ParityError, match="by nan"):
        Detector.load(changed(lambda s: s * [1, np.nan, 1]))


def test_a_bundle_without_golden_scores_raises(changed):
    for scores in (lambda s: None, lambda s: s[:2]):
        with pytest.raises(BundleError, match=r"golden\.npz contains no scores for fp32"):
            Detector.load(changed(scores))
