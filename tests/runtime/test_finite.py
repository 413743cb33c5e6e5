"""Invalid outputs are caught, retried once on the next safer variant, counted and reported."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("onnx", reason="the graphs are made with onnx")
from guarded import BRIGHT, frames, guarded_bundle

from leakrt import Detector
from leakrt.core.bundle import Bundle, graph_name
from leakrt.runtime.explain import explain
from leakrt.runtime.finite import Counters

NAN = ("vae_encoder", "latent", math.nan)
SATURATED = ("vae_encoder", "latent", 65504.0)
SMALL = ("vae_encoder", "latent", 3.0)  # finite, and within the range of a real latent
SCORES = ("leak_encoder", "scores", math.inf)


@pytest.fixture
def load(tmp_path):
    def make(broken, precision="int8", **options):
        return Detector.load(guarded_bundle(tmp_path / "b", broken, **options), precision=precision, threads=1)

    return make


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (NAN, "the VAE encoder returned a value that is not finite"),
        (("vae_encoder", "latent", math.inf), "the VAE encoder returned a value that is not finite"),
        (SATURATED, "the VAE encoder returned a latent of magnitude 6.55e+04, above 12"),
        (SMALL, "the VAE encoder returned a saturated latent: 100% of its values are at its extremes"),
        (("leak_encoder", "scores", 1e6), "the leak encoder returned scores of magnitude 1e+06, above 400"),
    ],
)
def test_a_forced_fault_never_yields_a_verdict_without_its_reason(load, broken, reason):
    detector = load({"fp32": broken}, "fp32", precisions=("fp32",))
    verdict = detector.check(BRIGHT)
    assert (verdict.verdict, verdict.probability, verdict.error) == ("abstain", 0.0, None)
    assert verdict.reasons == (f"fp32: {reason}",)
    assert detector.counters == Counters(images=1, caught=1, retried=0, rescued=0)


@pytest.mark.parametrize("broken", [NAN, SATURATED, SMALL, SCORES])
def test_the_next_safer_variant_classifies_and_the_verdict_says_so(load, broken):
    detector = load({"int8": broken})
    found, expected = detector.check(BRIGHT), Detector.load(detector.bundle.path, precision="fp16").check(BRIGHT)
    assert (found.verdict, found.scores, found.precision) == (expected.verdict, expected.scores, "fp16")
    assert found.reasons[: len(expected.reasons)] == expected.reasons
    assert found.reasons[-1].startswith("int8: the ")
    assert found.reasons[-1].endswith("; classified at fp16 instead")
    assert detector.counters == Counters(images=1, caught=1, retried=1, rescued=1)


def test_an_image_is_retried_only_once(load):
    verdict = load({"int8": NAN, "fp16": SCORES}).check(BRIGHT)
    assert verdict.verdict == "abstain"
    assert [reason.split(":")[0] for reason in verdict.reasons] == ["int8", "fp16"]


def test_the_retry_uses_the_next_safer_variant_in_the_bundle(load):
    assert load({"int8": NAN}, precisions=("fp32", "int8")).check(BRIGHT).precision == "fp32"


def test_a_variant_that_has_not_passed_acceptance_is_not_used_for_retries(load):
    gates = {"int8": {"onnxruntime": {"passed": True}}, "fp16": {"onnxruntime": {"passed": False}}}
    assert load({"int8": NAN}, gates=gates).check(BRIGHT).precision == "fp32"


@pytest.mark.parametrize("bad", [0, 3, 6])
def test_only_the_invalid_image_of_a_batch_is_retried(load, bad):
    detector = load({"int8": NAN})
    plain = Detector.load(detector.bundle.path, precision="fp32", threads=1)
    found, expected = detector.check_batch(frames(7, bad)), plain.check_batch(frames(7, bad))
    assert [v.precision for v in found] == ["fp16" if i == bad else "int8" for i in range(7)]
    assert [v.scores for v in found] == [v.scores for v in expected]
    assert [any("instead" in r for r in v.reasons) for v in found] == [i == bad for i in range(7)]
    assert detector.counters == Counters(images=7, caught=1, retried=1, rescued=1)
    assert list(detector.check_stream(frames(7, bad), batch=3))[bad].precision == "fp16"


def test_a_safer_variant_that_fails_to_load_is_a_reason(load, monkeypatch):
    detector = load({"int8": NAN})
    graph = detector.bundle.path / graph_name("vae_encoder", "fp16")
    graph.write_bytes(b"damaged")
    first, second = detector.check_batch(frames(2, 1))
    assert first.verdict is not None
    assert second.verdict == "abstain"
    assert "the next safer variant failed" in second.reasons[1]
    graph.write_bytes(Bundle.read(detector.bundle, graph_name("vae_encoder", "fp32")))
    assert detector.check(BRIGHT).precision == "fp16"  # a later load succeeds


def test_an_explanation_uses_the_valid_outputs(load):
    detector = load({"int8": NAN})
    analysis = detector.analyse(BRIGHT)[0]
    assert analysis.verdict.precision == "fp16"
    assert all(math.isfinite(gate.evidence) for gate in explain(detector, analysis).gates)


def test_latency_includes_both_attempts(load):
    verdict = load({"int8": NAN}).check(BRIGHT)
    assert set(verdict.latency_ms) == {"preprocess", "vae", "noising", "leak", "decision"}
