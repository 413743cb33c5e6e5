"""The choice of a bundle's precision and backend."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx", reason="the graphs are made with onnx")
from guarded import guarded_bundle

from leakrt import Detector
from leakrt.core.bundle import Bundle
from leakrt.core.errors import BackendError, BundleError, UsageError
from leakrt.runtime.backends import registry
from leakrt.runtime.backends.base import Availability, BackendKind
from leakrt.runtime.precision import Choice, choose, safer_precision

PASSED, FAILED = {"passed": True}, {"passed": False}
SLOW = {"passed": True, "speedup": 0.64}


@pytest.fixture
def bundle(tmp_path):
    """Create a bundle of three precisions with these gates; a gate without a backend is for ONNX Runtime."""

    def make(**gates):
        by_backend = {p: gate if "passed" not in gate else {"onnxruntime": gate} for p, gate in gates.items()}
        return Bundle(guarded_bundle(tmp_path / "b", {}, gates=by_backend))

    return make


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """Both backends are installed at these versions; choosing loads nothing."""
    versions = {"openvino": "2026.2.0", "onnxruntime": "1.32.0", "openvino_bf16": "2026.2.0"}

    def probe(name):
        there = Availability(backend=name, runs=True, version=versions[name], reason="", install="")
        gone = Availability(
            backend=name, runs=False, version="", reason="it is not installed", install=f"pip install {name}"
        )
        return lambda: there if versions[name] else gone

    monkeypatch.setattr(registry, "kind", lambda name: BackendKind(name, probe(name), registry_load(name)))
    return versions


def registry_load(name):
    if name == "onnxruntime":
        from leakrt.runtime.backends.onnxruntime import load

        return load
    return None


def chosen(bundle, precision="auto", backend="onnxruntime"):
    return [(c.precision, c.backend) for c in choose(bundle, backend, precision)]


def test_auto_selects_the_smallest_precision_that_passed_acceptance_here(bundle):
    assert chosen(bundle(int8=PASSED, fp16=PASSED)) == [("int8", "onnxruntime")]
    assert chosen(bundle(int8=FAILED, fp16=PASSED)) == [("fp16", "onnxruntime")]
    assert chosen(bundle(int8=PASSED, fp16=FAILED), backend="openvino") == [("fp32", "openvino")]
    assert chosen(bundle()) == [("fp32", "onnxruntime")]


def test_auto_skips_a_variant_slower_than_fp32_and_naming_it_still_works(bundle):
    opened = bundle(fp16={"onnxruntime": SLOW, "openvino": {"passed": True, "speedup": 0.98}})
    assert chosen(opened) == [("fp32", "onnxruntime")]
    assert chosen(opened, "fp16") == [("fp16", "onnxruntime")]
    assert chosen(opened, backend="auto") == chosen(opened, backend="openvino") == [("fp16", "openvino")]
    assert chosen(opened, backend="fastest") == [("fp16", "openvino"), ("fp32", "onnxruntime")]
    assert safer_precision(bundle(int8=PASSED, fp16=SLOW), Choice("int8", "onnxruntime", "1.32.0")) == "fp16"


def test_a_bundle_without_fp32_runs_a_slow_variant_rather_than_none(tmp_path):
    opened = Bundle(guarded_bundle(tmp_path / "b", {}, precisions=("fp16",), gates={"fp16": {"onnxruntime": SLOW}}))
    assert chosen(opened) == [("fp16", "onnxruntime")]


def test_bfloat16_must_be_named_and_needs_a_variant_that_passed_there(bundle):
    opened = bundle(int8={"openvino": PASSED, "openvino_bf16": PASSED})
    assert chosen(opened, backend="openvino_bf16") == [("int8", "openvino_bf16")]
    assert chosen(opened, backend="auto") == [("int8", "openvino")]
    assert safer_precision(opened, Choice("int8", "openvino_bf16", "2026.2.0")) == "fp32"
    with pytest.raises(BundleError, match="openvino_bf16 does not run fp32; use another backend"):
        chosen(opened, "fp32", "openvino_bf16")
    with pytest.raises(
        BundleError, match=r"int8 has not passed its acceptance test on openvino_bf16 \(passed on: openvino\)"
    ):
        chosen(bundle(int8={"openvino": PASSED}), backend="openvino_bf16")


def test_a_loaded_detector_reports_the_choice_of_auto(bundle):
    assert Detector.load(bundle(int8=FAILED, fp16=PASSED).path, threads=1).describe().precision == "fp16"


def test_the_auto_backend_is_the_first_that_passed_in_a_fixed_order(bundle):
    opened = bundle(int8={"onnxruntime": PASSED, "openvino": PASSED}, fp16={"onnxruntime": PASSED})
    assert chosen(opened, backend="auto") == [("int8", "openvino")]
    assert chosen(opened, "fp16", "auto") == [("fp16", "onnxruntime")]
    assert chosen(opened, "fp32", "auto") == [("fp32", "onnxruntime")]
    assert chosen(bundle(int8={"onnxruntime": PASSED}), backend="auto") == [("int8", "onnxruntime")]


def test_fastest_times_the_smallest_precision_on_each_backend(bundle):
    opened = bundle(int8={"openvino": PASSED}, fp16={"onnxruntime": PASSED})
    assert chosen(opened, backend="fastest") == [("int8", "openvino"), ("fp16", "onnxruntime")]
    assert chosen(opened, "int8", "fastest") == [("int8", "openvino")]


def test_a_backend_that_is_not_installed_is_skipped_or_raises_if_named(bundle, installed):
    opened = bundle(int8={"openvino": PASSED})
    installed["openvino"] = ""
    assert chosen(opened, backend="auto") == [("fp32", "onnxruntime")]
    with pytest.raises(BackendError, match="pip install openvino"):
        chosen(opened, "int8", "auto")


def test_a_named_precision_that_has_not_passed_acceptance_raises_with_one_line(bundle):
    with pytest.raises(
        BundleError, match=r"int8 has not passed its acceptance test on openvino \(passed on: onnxruntime\); test it"
    ):
        chosen(bundle(int8=PASSED), "int8", "openvino")
    for backend in ("auto", "onnxruntime"):
        with pytest.raises(
            BundleError, match=r"fp16 has not passed its acceptance test on .* \(passed on: none\).*leakrt export"
        ):
            chosen(bundle(fp16=FAILED), "fp16", backend)
    with pytest.raises(BundleError, match="has not passed its acceptance test") as raised:
        Detector.load(bundle(fp16=FAILED).path, precision="fp16")
    assert "\n" not in str(raised.value)


def test_a_missing_or_unknown_precision_raises(bundle, tiny):
    with pytest.raises(BundleError, match="has no fp16 variant; it has: fp32"):
        chosen(Bundle(tiny), "fp16")
    with pytest.raises(UsageError, match="no precision 'fp8'"):
        chosen(bundle(), "fp8")


@pytest.mark.parametrize("version", ["1.31.2", "1.24", "0.9", "unknown"])
def test_fp16_raises_on_an_older_onnx_runtime_and_auto_skips_it(bundle, installed, version):
    opened = bundle(fp16=PASSED)
    assert chosen(opened) == [("fp16", "onnxruntime")]
    installed["onnxruntime"] = version
    with pytest.raises(BundleError, match=rf"fp16 needs ONNX Runtime 1\.32 or newer, but {version} is installed"):
        chosen(opened, "fp16")
    assert chosen(opened) == [("fp32", "onnxruntime")]


def test_the_safer_precision_is_the_next_towards_fp32(bundle):
    opened = bundle(int8=PASSED, fp16=PASSED)
    steps = [safer_precision(opened, Choice(p, "onnxruntime", "1.32.0")) for p in ("int8", "fp16", "fp32")]
    assert steps == ["fp16", "fp32", ""]
    assert safer_precision(opened, Choice("int8", "openvino", "2026.0")) == "fp32"


def test_an_int8_variant_that_fails_its_own_requirements_raises_if_named_and_is_skipped_by_auto(bundle):
    opened = bundle(int8={"onnxruntime": {"passed": True, "speedup": 1.1}}, fp16=PASSED)
    with pytest.raises(
        BundleError, match=r"the int8 variant fails its own requirements \(int8 is at best 1\.10 x as fast as fp32"
    ):
        choose(opened, "onnxruntime", "int8")
    assert choose(opened, "onnxruntime", "auto")[0].precision == "fp16"


@pytest.fixture
def kept(tmp_path):
    """A bundle with int8 that passed, and fp16 that was refused on ONNX Runtime and kept."""
    gates = {"int8": {"onnxruntime": PASSED}, "fp16": {"onnxruntime": FAILED}}
    return Bundle(guarded_bundle(tmp_path / "kept", {}, gates=gates, refused={"fp16": ["2 faces cross"]}))


def test_a_refused_variant_is_used_only_if_it_is_named_and_where_it_was_measured(kept):
    for backend in ("onnxruntime", "auto", "fastest"):
        assert chosen(kept, "fp16", backend) == [("fp16", "onnxruntime")]
    assert chosen(kept) == chosen(kept, "auto", "auto") == [("int8", "onnxruntime")]
    with pytest.raises(BundleError, match=r"fp16 was refused by its acceptance test, and was not measured on openvino"):
        chosen(kept, "fp16", "openvino")


def test_a_refused_variant_is_no_fallback(kept):
    assert safer_precision(kept, Choice("int8", "onnxruntime", "1.32.0")) == "fp32"


def test_auto_has_nothing_to_select_in_a_bundle_of_one_refused_variant(tmp_path):
    opened = Bundle(
        guarded_bundle(
            tmp_path / "b",
            {},
            precisions=("fp16",),
            gates={"fp16": {"onnxruntime": FAILED}},
            refused={"fp16": ["2 faces cross"]},
        )
    )
    with pytest.raises(BundleError, match="fp16 has not passed its acceptance test"):
        chosen(opened)
    assert chosen(opened, "fp16") == [("fp16", "onnxruntime")]


def test_every_verdict_of_a_refused_variant_says_so(kept):
    from bundles import noise_image

    note = "the fp16 variant was refused by its acceptance test: 2 faces cross"
    named = Detector.load(kept.path, precision="fp16", threads=1)
    assert all(v.reasons[-1] == note for v in named.check_stream([noise_image(i) for i in range(3)]))
    assert note not in Detector.load(kept.path, threads=1).check(noise_image(0)).reasons
