"""A loaded variant: backend, pipeline, judge, and its golden image check."""

from __future__ import annotations

import numpy as np
import pytest

from leakrt.core.bundle import Bundle, write_bundle
from leakrt.core.errors import BackendError, BundleError, ParityError, UsageError
from leakrt.runtime import loaded
from leakrt.runtime.loaded import LoadedVariant, quickest, weights_of


@pytest.fixture
def variant(tiny):
    return LoadedVariant.load(Bundle(tiny), "fp32", "onnxruntime", threads=1)


def rewrite(tiny, path, **files):
    bundle = Bundle(tiny)
    write_bundle(path, bundle.spec, {n: bundle.read(n) for n in bundle.hashes} | files, provenance={})
    return Bundle(path)


def test_a_variants_judge_has_its_precision_backend_and_bundle(variant, tiny):
    bundle = Bundle(tiny)
    origin = variant.judge.origin
    assert (origin.backend, origin.precision, origin.bundle) == ("onnxruntime", "fp32", bundle.identity)
    assert variant.precision == "fp32"
    assert variant.support.to_bytes() == bundle.support("fp32").to_bytes()
    image = variant.pipeline.image_buffer()
    variant.pipeline.preprocess(bundle.golden().image, image)
    scores = variant.pipeline.run([image]).outputs.scores[0]
    assert np.abs(scores - bundle.golden().scores["fp32"]).max() < 1e-4


def test_a_backend_with_other_golden_scores_raises(tiny, tmp_path):
    from dataclasses import replace

    golden = Bundle(tiny).golden()
    moved = replace(golden, scores={"fp32": golden.scores["fp32"] + np.float32(0.5)})
    bundle = rewrite(tiny, tmp_path / "b", **{"golden.npz": moved.to_bytes()})
    with pytest.raises(ParityError, match=r"fp32 on onnxruntime changes the golden image's scores by 0\.5"):
        LoadedVariant.load(bundle, "fp32", "onnxruntime", threads=1)


def test_a_missing_precision_or_backend_raises(tiny, monkeypatch):
    with pytest.raises(BundleError, match="int8"):
        LoadedVariant.load(Bundle(tiny), "int8", "onnxruntime", threads=1)
    with pytest.raises(UsageError, match="no backend named 'abacus'"):
        LoadedVariant.load(Bundle(tiny), "fp32", "abacus", threads=1)
    import sys

    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendError, match="openvino can't run"):
        LoadedVariant.load(Bundle(tiny), "fp32", "openvino", threads=1)


def test_weights_are_read_only_on_request(tiny, tmp_path):
    assert weights_of(Bundle(tiny)) is None
    bundle = rewrite(tiny, tmp_path / "b", **{"weights.safetensors": b"as they are"})
    read = weights_of(bundle)
    assert read() == b"as they are"


def test_a_single_variant_is_not_timed(variant, tiny, monkeypatch):
    monkeypatch.setattr(loaded.registry, "race", lambda laps: pytest.fail("a single variant was timed"))
    assert quickest(Bundle(tiny), [variant]) is variant


def test_several_variants_are_timed_on_the_golden_image(variant, tiny, monkeypatch):
    other = LoadedVariant.load(Bundle(tiny), "fp32", "onnxruntime", threads=1)
    other.backend.name = "second"
    ran = []

    def race(laps):
        for name, lap in laps.items():
            lap()
            ran.append(name)
        return "second"

    monkeypatch.setattr(loaded.registry, "race", race)
    assert quickest(Bundle(tiny), [variant, other]) is other
    assert ran == ["onnxruntime", "second"]
