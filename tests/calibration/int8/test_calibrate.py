from dataclasses import replace

import numpy as np
import pytest
from bundles import TINY_SPEC, labelled_noise, noise_image, random_bundle

pytest.importorskip("torch")
pytest.importorskip("onnx")
from PIL import Image

from leakrt.calibration.acceptance.measuring import onnxruntime_only
from leakrt.calibration.int8.calibrate import CalibrationOptions, calibrate
from leakrt.calibration.int8.methods import METHODS
from leakrt.calibration.int8.shift import MAX_SHIFT
from leakrt.core.acceptance import Limits
from leakrt.core.bundle import Bundle
from leakrt.core.errors import BundleError, DataError, UsageError
from leakrt.core.progress import silent
from leakrt.core.variants import passed_acceptance, refusal
from leakrt.runtime.detector import Detector

SPEC = replace(TINY_SPEC, class_names=("blocky", "real", "smooth"))
EASY = Limits(max_drop=0.5, max_crossings=72, max_changed=1.0, max_moved=1.0, min_counted=0.0, min_agreement=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return labelled_noise(tmp_path_factory.mktemp("data"), SPEC.class_names, {"train": 14, "val": 24})


def options(**changes):
    return CalibrationOptions(**{"images": 40, "limits": EASY, "threads": 1, **changes})


def run(bundle, data, cache, **changes):
    return calibrate(
        bundle, data, options(**changes), refitter=None, backends=onnxruntime_only(1), cache=cache, progress=silent
    )


def files_of(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


@pytest.fixture
def bundle(tmp_path):
    return random_bundle(tmp_path / "bundle", spec=SPEC)


@pytest.fixture
def any_speed(monkeypatch):
    monkeypatch.setattr("leakrt.core.acceptance.MIN_INT8_SPEEDUP", 0.0)


def test_an_accepted_variant_loads_and_is_in_the_manifest(bundle, data, tmp_path, any_speed):
    result = run(bundle, data, tmp_path / "cache")
    assert result.written == bundle
    opened = Bundle(bundle)
    assert opened.precisions == ("fp32", "int8")
    assert passed_acceptance(opened.provenance, "int8", "onnxruntime")
    assert not passed_acceptance(opened.provenance, "int8", "openvino")
    assert opened.provenance["variants"]["int8"]["int8_share"] >= 0.8
    assert 0 < opened.decisions["int8"].bounds.latent < 1e3
    verdict = Detector.load(bundle, precision="int8", threads=1).check(noise_image(5))
    assert verdict.precision == "int8"
    assert verdict.verdict is not None


def test_a_variant_that_fails_acceptance_is_not_written(bundle, data, tmp_path, any_speed):
    before = files_of(bundle)
    result = run(bundle, data, tmp_path / "cache", limits=replace(EASY, max_drop=-1.0))
    assert result.written is None
    assert all("macro AUC" in attempt.failures[0] for attempt in result.attempts)
    assert files_of(bundle) == before


def test_a_refused_variant_is_kept_on_request_with_its_reasons(bundle, data, tmp_path, any_speed):
    result = run(bundle, data, tmp_path / "cache", limits=replace(EASY, max_drop=-1.0), keep_refused=True)
    assert (result.written, result.refused) == (bundle, True)
    opened = Bundle(bundle)
    assert refusal(opened.provenance, "int8") == result.attempts[-1].failures
    assert "macro AUC" in result.attempts[-1].failures[0]
    assert not passed_acceptance(opened.provenance, "int8", "onnxruntime")
    assert Detector.load(bundle, threads=1).describe().precision == "fp32"
    named = Detector.load(bundle, precision="int8", threads=1).check(noise_image(5))
    assert named.reasons[-1].startswith("the int8 variant was refused by its acceptance test: macro AUC drops")


def test_a_variant_that_is_no_faster_is_refused(bundle, data, tmp_path, monkeypatch):
    monkeypatch.setattr("leakrt.core.acceptance.MIN_INT8_SPEEDUP", 1e9)
    before = files_of(bundle)
    result = run(bundle, data, tmp_path / "cache")
    assert result.written is None
    assert all("as fast as fp32" in attempt.failures[-1] for attempt in result.attempts)
    assert files_of(bundle) == before


def test_a_variant_with_too_little_in_int8_is_refused(bundle, data, tmp_path, monkeypatch, any_speed):
    monkeypatch.setattr("leakrt.core.acceptance.MIN_INT8_SHARE", 1.01)  # no variant reaches this
    before = files_of(bundle)
    result = run(bundle, data, tmp_path / "cache")
    assert result.written is None
    assert all("of the VAE's multiplications are in int8" in attempt.failures[0] for attempt in result.attempts)
    assert files_of(bundle) == before


def test_an_existing_int8_variant_is_replaced_only_on_request(bundle, data, tmp_path, any_speed):
    run(bundle, data, tmp_path / "cache")
    before = files_of(bundle)
    with pytest.raises(BundleError, match="already"):
        run(bundle, data, tmp_path / "cache")
    assert files_of(bundle) == before
    assert run(bundle, data, tmp_path / "cache", replace=True).written == bundle


def test_too_few_images_and_a_flat_colour_are_refused_with_the_number_wanted(bundle, data, tmp_path):
    with pytest.raises(DataError, match="at least 32"):
        run(bundle, data, tmp_path / "cache", images=31)
    flat = tmp_path / "flat"
    flat.mkdir()
    for i in range(40):
        Image.new("RGB", (64, 64), (i, 90, 20)).save(flat / f"{i}.png")
    with pytest.raises(DataError, match=r"0 usable images \(40 have a single colour\)"):
        run(bundle, data, tmp_path / "cache", range_images=flat)


@pytest.mark.parametrize("method", METHODS)
def test_images_of_the_run_pass_the_shift_check_with_every_method_and_the_manifest_says_so(
    bundle, data, tmp_path, any_speed, method
):
    result = run(bundle, data, tmp_path / "cache", method=method, images=32)
    assert result.shift.share < MAX_SHIFT
    assert result.shift.images == 64
    told = Bundle(bundle).provenance["variants"]["int8"]["images_shift"]
    assert told == {"share": result.shift.share, "limit": MAX_SHIFT, "tensor": result.shift.tensor, "images": 64}


def test_training_images_of_another_kind_than_the_validation_images_are_refused(bundle, tmp_path):
    data = labelled_noise(tmp_path / "data", SPEC.class_names, {"train": 14, "val": 24})
    for path in (data / "train").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path)) // 8).save(path)
    before = files_of(bundle)
    with pytest.raises(DataError, match="check that the train and val folders"):
        run(bundle, data, tmp_path / "cache")
    assert files_of(bundle) == before


def test_a_method_that_does_not_exist_is_refused_before_anything_runs(bundle, data, tmp_path):
    with pytest.raises(UsageError, match="'best'"):
        run(bundle, data, tmp_path / "cache", method="best")
    assert not (tmp_path / "cache").exists()
