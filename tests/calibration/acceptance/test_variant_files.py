"""A variant is added to a bundle atomically, or not at all."""

import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from acceptance_figures import results_with_figures
from bundles import TINY_SPEC, leak_encoder, random_bundle

pytest.importorskip("torch")
pytest.importorskip("onnx")

from leakrt.calibration.acceptance.measuring import load_variant
from leakrt.calibration.acceptance.variant_files import NewVariant, add_refused, add_variant
from leakrt.core.bundle import Bundle
from leakrt.core.errors import BundleError, StorageError
from leakrt.core.outputs import LeakOutputs
from leakrt.core.variants import accepted_backends, measured_backends, refusal


@pytest.fixture
def bundle(tmp_path):
    return Bundle(random_bundle(tmp_path / "bundle"))


def variant_of(bundle, **changes):
    """An int8 variant with the fp32 VAE encoder and another leak encoder, support and temperature."""
    support = bundle.support("fp32")
    other = replace(support, bandwidth=2 * support.bandwidth)
    gates = {
        "onnxruntime": {"passed": True, "score_difference": 0.0},
        "openvino": {"passed": False, "score_difference": 50.0},
    }
    report = {"int8_share": 0.9, "gate": results_with_figures("int8", gates)}
    leak = leak_encoder(TINY_SPEC, support.prototypes, seed=5)
    decision = replace(bundle.decisions["fp32"], temperature=1.75)
    made = NewVariant(
        precision="int8",
        vae_encoder=bundle.graph("vae_encoder", "fp32"),
        leak_encoder=leak,
        support=other,
        decision=decision,
        report=report,
        fp32_tolerance={"openvino": 0.5},
    )
    return replace(made, **changes)


def runner_of(variant):
    return load_variant(TINY_SPEC, variant.vae_encoder, variant.leak_encoder, threads=1)


def files_of(bundle):
    return {path.name: path.read_bytes() for path in bundle.path.iterdir()}


def added(bundle):
    variant = variant_of(bundle)
    return Bundle(add_variant(bundle, variant, runner_of(variant))), variant


def test_graphs_support_and_decision_are_the_variants_own_and_those_of_fp32_stay(bundle):
    before = files_of(bundle)
    found, variant = added(bundle)
    assert found.precisions == ("fp32", "int8")
    assert found.graph("leak_encoder", "int8") == variant.leak_encoder
    assert found.support("int8").bandwidth == variant.support.bandwidth
    assert found.decisions["int8"].temperature == 1.75
    assert found.decisions["fp32"].temperature == 1.0
    after = files_of(found)
    assert all(after[name] == data for name, data in before.items() if ".fp32." in name)


def test_golden_outputs_are_what_the_variant_gives_for_the_golden_image(bundle):
    exact = bundle.golden()
    golden = added(bundle)[0].golden()
    np.testing.assert_array_equal(golden.image, exact.image)
    np.testing.assert_array_equal(golden.scores["fp32"], exact.scores["fp32"])
    assert np.abs(golden.scores["int8"] - exact.scores["fp32"]).max() > 1e-3  # another leak encoder
    assert golden.embedding["int8"].shape == exact.embedding["fp32"].shape


def test_the_manifest_has_the_report(bundle):
    found, variant = added(bundle)
    assert found.provenance["variants"]["int8"] == variant.report
    assert found.provenance["trained_on"] == bundle.provenance["trained_on"]
    assert accepted_backends(found.provenance, "int8") == ("onnxruntime",)


def test_the_tolerance_is_a_share_of_the_largest_score_or_the_measured_difference(bundle):
    found = added(bundle)[0]
    largest = max(1.0, float(np.abs(found.golden().scores["int8"]).max()))
    assert found.decisions["int8"].tolerance == {"onnxruntime": pytest.approx(8e-2 * largest), "openvino": 50.0}


def test_tolerances_of_fp32_are_added_and_not_overwritten(bundle):
    known = bundle.decisions["fp32"].tolerance["onnxruntime"]
    found = Bundle(_add(bundle, fp32_tolerance={"openvino": 0.5, "onnxruntime": 99.0}))
    assert found.decisions["fp32"].tolerance == {"onnxruntime": known, "openvino": 0.5}


def _add(bundle, **changes) -> Path:
    variant = variant_of(bundle, **changes)
    return add_variant(bundle, variant, runner_of(variant))


class NotFinite:
    """A variant that overflows."""

    def __init__(self, runner) -> None:
        self._runner = runner

    def vae_encoder(self, image):
        return self._runner.vae_encoder(image)

    def leak_encoder(self, noised):
        outputs = self._runner.leak_encoder(noised)
        return LeakOutputs(outputs.scores * np.float32(np.nan), outputs.embedding, outputs.gates, outputs.step_weights)


def test_scores_that_are_not_finite_on_the_golden_image_leave_the_bundle(bundle):
    before, variant = files_of(bundle), variant_of(bundle)
    with pytest.raises(BundleError, match="the int8 variant returns scores that are not finite on the golden image"):
        add_variant(bundle, variant, NotFinite(runner_of(variant)))
    assert files_of(bundle) == before


@pytest.mark.parametrize("last", ["golden.npz", "manifest.json", "vae_encoder.int8.onnx"])
def test_a_disk_that_fills_up_at_any_file_leaves_the_bundle(bundle, monkeypatch, last):
    before, whole = files_of(bundle), Path.write_bytes

    def write(path, content):
        if path.name == last:
            whole(path, content[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, content)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(StorageError, match="no space left"):
        _add(bundle)
    monkeypatch.undo()
    assert files_of(bundle) == before
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"]


def test_a_refused_variant_is_written_with_its_reasons_and_passed_nowhere(bundle):
    variant = variant_of(bundle)
    assert add_refused(bundle, variant, runner_of(variant), reasons=["too many labels", "too slow"]) == bundle.path
    found = Bundle(bundle.path)
    assert refusal(found.provenance, "int8") == ("too many labels", "too slow")
    assert accepted_backends(found.provenance, "int8") == ()
    assert measured_backends(found.provenance, "int8") == ("onnxruntime", "openvino")
    recorded = found.provenance["variants"]["int8"]["gate"]
    assert [test["passed"] for test in recorded.values()] == [False, False]  # also for readers that know no mark


def test_a_refused_variant_replaces_a_refused_one_but_none_that_passed(bundle):
    variant = variant_of(bundle)
    add_refused(bundle, variant, runner_of(variant), reasons=["first"])
    again = Bundle(bundle.path)
    assert add_refused(again, variant, runner_of(variant), reasons=["second"]) == bundle.path
    assert refusal(Bundle(bundle.path).provenance, "int8") == ("second",)
    passed = added(Bundle(bundle.path))[0]
    before = files_of(passed)
    assert add_refused(passed, variant, runner_of(variant), reasons=["third"]) is None
    assert files_of(passed) == before
