"""The acceptance test of an existing variant on another backend."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("openvino", reason="openvino is not installed")
from bundles import TINY_SPEC, labelled_noise, random_bundle

from leakrt.calibration.acceptance import on_backend as later_gate
from leakrt.calibration.acceptance.measuring import onnxruntime_only
from leakrt.calibration.acceptance.on_backend import AcceptanceRequest, run_acceptance_test
from leakrt.calibration.fp16.variant import HalfOptions, add_fp16
from leakrt.core.acceptance import Limits
from leakrt.core.bundle import Bundle
from leakrt.core.errors import BackendError, BundleError, DataError, UsageError
from leakrt.core.progress import silent
from leakrt.core.variants import accepted_backends, measured_backends
from leakrt.runtime.detector import Detector

SPEC = replace(TINY_SPEC, class_names=("blocky", "real", "smooth"))
EASY = Limits(max_drop=0.05, max_crossings=72, max_changed=1.0, min_agreement=0.9)
IMPOSSIBLE = Limits(max_drop=-1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return labelled_noise(tmp_path_factory.mktemp("data"), SPEC.class_names, {"train": 2, "val": 24})


@pytest.fixture
def bundle(data, tmp_path):
    """A bundle with an fp16 variant that was tested only on ONNX Runtime."""
    path = random_bundle(tmp_path / "bundle", spec=SPEC)
    add_fp16(path, data, HalfOptions(EASY, 1), backends=onnxruntime_only(1), progress=silent)
    return path


@pytest.fixture
def limits(monkeypatch):
    return lambda found: monkeypatch.setattr(later_gate, "LIMITS", dict.fromkeys(("fp32", "fp16", "int8"), found))


def measure(bundle, data, precision="fp16", backend="openvino"):
    return run_acceptance_test(
        bundle, data, AcceptanceRequest(precision=precision, backend=backend, threads=1), progress=silent
    )


def test_an_accepted_variant_can_be_used_on_that_backend(bundle, data, limits):
    limits(EASY)
    with pytest.raises(
        BundleError, match=r"test it with leakrt accept BUNDLE DATA --backend openvino --precision fp16"
    ):
        Detector.load(bundle, backend="openvino", precision="fp16", threads=1)
    result = measure(bundle, data)
    assert (result.failures, result.found.comparison.images) == ((), 72)
    assert 0 < result.found.speedup.low <= result.found.speedup.median
    assert accepted_backends(Bundle(bundle).provenance, "fp16") == ("onnxruntime", "openvino")
    assert Detector.load(bundle, backend="openvino", precision="fp16", threads=1).describe().precision == "fp16"
    told = Bundle(bundle).provenance["variants"]["fp16"]["gate"]
    assert told["openvino"] == result.to_json()
    assert told["onnxruntime"]["passed"] is True


def test_a_rejected_variant_is_reported_and_stays_unusable(bundle, data, limits):
    limits(IMPOSSIBLE)
    before = Bundle(bundle)
    result = measure(bundle, data)
    assert "macro AUC drops" in result.failures[0]
    after = Bundle(bundle)
    assert measured_backends(after.provenance, "fp16") == ("onnxruntime", "openvino")
    assert accepted_backends(after.provenance, "fp16") == ("onnxruntime",)
    assert after.decisions == before.decisions
    with pytest.raises(BundleError, match="has not passed its acceptance test on openvino"):
        Detector.load(bundle, backend="openvino", precision="fp16", threads=1)


def test_a_refused_variant_that_was_kept_is_measured_and_stays_refused(data, tmp_path, limits):
    path = random_bundle(tmp_path / "kept", spec=SPEC)
    options = HalfOptions(IMPOSSIBLE, 1, keep_refused=True)
    add_fp16(path, data, options, backends=onnxruntime_only(1), progress=silent)
    limits(EASY)
    result = measure(path, data)
    assert result.failures[-1].startswith("the fp16 variant was refused by its acceptance test")
    after = Bundle(path)
    assert after.provenance["variants"]["fp16"]["gate"]["openvino"]["passed"] is False
    assert accepted_backends(after.provenance, "fp16") == ()
    assert Detector.load(path, backend="openvino", precision="fp16", threads=1).describe().precision == "fp16"
    assert Detector.load(path, threads=1).describe().precision == "fp32"


def test_it_adds_to_the_manifest_and_the_tolerances_and_changes_nothing_else(bundle, data, limits):
    limits(EASY)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    result = measure(bundle, data)
    after = {path.name: path.read_bytes() for path in bundle.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json", "decision.json"}
    tolerance = Bundle(bundle).decisions["fp16"].tolerance
    assert tolerance["openvino"] == max(tolerance["onnxruntime"], result.found.score_difference)


def test_fp32_gets_a_tolerance_so_that_auto_knows_the_backend(bundle, data, limits):
    limits(EASY)
    assert "openvino" not in Bundle(bundle).decisions["fp32"].tolerance
    assert measure(bundle, data, "fp32").failures == ()
    assert "openvino" in Bundle(bundle).decisions["fp32"].tolerance
    assert Detector.load(bundle, precision="fp32", threads=1).describe().backend == "openvino"


@pytest.mark.parametrize(
    ("precision", "backend", "error", "words"),
    [
        ("int8", "openvino", BundleError, "int8"),
        ("fp16", "abacus", UsageError, "no backend named 'abacus'"),
        ("fp16", "tensorrt", BackendError, "tensorrt can't run"),
    ],
)
def test_a_failed_test_is_one_error_and_changes_nothing(bundle, data, precision, backend, error, words):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(error, match=words):
        measure(bundle, data, precision, backend)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_data_of_other_classes_is_refused(bundle, tmp_path):
    (tmp_path / "other" / "train" / "x").mkdir(parents=True)
    with pytest.raises(DataError):
        measure(bundle, tmp_path / "other")
