"""Export of an FP16 variant: it is written only if it is accepted."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
from bundles import TINY_SPEC, bundle_files, labelled_noise, leak_encoder, noise_image, random_bundle

from leakrt.calibration.acceptance import measuring
from leakrt.calibration.acceptance.measuring import installed, onnxruntime_only
from leakrt.calibration.acceptance.speed import measure_speedup
from leakrt.calibration.fp16.variant import HalfOptions, add_fp16
from leakrt.core.acceptance import Limits, Speedup
from leakrt.core.bundle import Bundle, write_bundle
from leakrt.core.errors import BackendError, BundleError, DataError, ModelError
from leakrt.core.graphs import vae_encoder_graph
from leakrt.core.progress import silent
from leakrt.core.variants import accepted_backends, refusal
from leakrt.runtime.detector import Detector

SPEC = replace(TINY_SPEC, class_names=("blocky", "real", "smooth"))
EASY = Limits(max_drop=0.05, max_crossings=72, max_changed=1.0, min_agreement=0.9)
IMPOSSIBLE = replace(EASY, max_drop=-1.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return labelled_noise(tmp_path_factory.mktemp("data"), SPEC.class_names, {"train": 2, "val": 24})


@pytest.fixture(autouse=True)
def timed(monkeypatch):
    """Time runs as usual, but return a fixed speedup, independent of the load of the machine."""
    monkeypatch.setattr(
        measuring,
        "measure_speedup",
        lambda *given, **options: steady(1.5 * (measure_speedup(*given, **options).low > 0)),
    )


def steady(times):
    return Speedup(times, times, times, 25)


def make(bundle, data, limits=EASY, **options):
    return add_fp16(bundle, data, HalfOptions(limits, 1, **options), backends=onnxruntime_only(1), progress=silent)


def files_of(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


@pytest.fixture
def bundle(tmp_path):
    return random_bundle(tmp_path / "bundle", spec=SPEC)


def test_an_accepted_variant_is_written_and_reported_and_loads(bundle, data):
    before = files_of(bundle)
    result = make(bundle, data)
    assert result.written == bundle
    opened = Bundle(bundle)
    assert opened.precisions == ("fp32", "fp16")
    assert accepted_backends(opened.provenance, "fp16") == ("onnxruntime",)
    told = opened.provenance["variants"]["fp16"]
    assert told["rounded"]["images"] == told["gate"]["onnxruntime"]["images"] == 72
    assert told["gate"]["onnxruntime"]["speedup"] == result.attempts[-1].speedups["onnxruntime"].median == 1.5
    assert told["gate"]["onnxruntime"]["speedup_interval"] == [1.5, 1.5]
    assert told["search"][0] == {
        "island": "",
        "score_error": result.steps[0].error.relative,
        "expected_disagreement": result.steps[0].error.disagreement,
    }
    assert {n for nodes in told["islands"].values() for n in nodes} == {n for _, n in result.attempts[-1].step.islands}
    assert min(told["half_share"].values()) >= 0.8
    for name in ("vae_encoder.fp32.onnx", "leak_encoder.fp32.onnx", "density.fp32.safetensors"):
        assert (bundle / name).read_bytes() == before[name]
    assert len((bundle / "vae_encoder.fp16.onnx").read_bytes()) < len(before["vae_encoder.fp32.onnx"])


def test_other_installed_backends_have_their_own_acceptance_test(bundle, data):
    pytest.importorskip("openvino", reason="openvino is not installed")
    backends = installed(1)
    add_fp16(bundle, data, HalfOptions(EASY, 1), backends=backends, progress=silent)
    opened = Bundle(bundle)
    assert set(accepted_backends(opened.provenance, "fp16")) == backends.loaders.keys() >= {"onnxruntime", "openvino"}
    assert opened.decisions["fp16"].tolerance.keys() == backends.loaders.keys()
    assert Detector.load(bundle, backend="openvino", threads=1).describe().precision == "fp16"
    assert Detector.load(bundle, threads=1).describe().backend == "openvino"  # the first in the order of auto


def test_thresholds_temperature_bandwidth_and_bounds_are_its_own(bundle, data):
    make(bundle, data)
    opened = Bundle(bundle)
    exact, half = opened.decisions["fp32"], opened.decisions["fp16"]
    assert (exact.validation_real, half.validation_real) == (40, 24)
    assert half.temperature != exact.temperature
    assert half.bounds.latent > 0
    assert half.tolerance["onnxruntime"] > 0
    assert opened.support("fp16").bandwidth != opened.support("fp32").bandwidth


def test_auto_takes_it_and_its_verdicts_say_so(bundle, data):
    expected = Detector.load(bundle, threads=1).check(noise_image(3))
    make(bundle, data)
    found = Detector.load(bundle, threads=1).check(noise_image(3))
    assert (expected.precision, found.precision) == ("fp32", "fp16")
    assert found.verdict is not None
    assert found.step_weights == pytest.approx(expected.step_weights, abs=1e-3)


def test_auto_passes_over_one_that_may_be_slower_than_fp32_and_a_name_takes_it(bundle, data, monkeypatch):
    monkeypatch.setattr(measuring, "measure_speedup", lambda *given, **options: Speedup(1.3, 0.6, 1.4, 25))
    make(bundle, data)
    found = [Detector.load(bundle, precision=p, threads=1).describe().precision for p in ("auto", "fp16")]
    assert found == ["fp32", "fp16"]


def test_a_rejected_variant_is_not_written_and_has_reasons(bundle, data):
    before = files_of(bundle)
    result = make(bundle, data, IMPOSSIBLE)
    assert result.written is None
    assert any("macro AUC" in why for why in result.attempts[-1].failures)
    assert files_of(bundle) == before


def test_a_rejected_variant_is_kept_on_request_marked_and_used_only_by_name(bundle, data):
    result = make(bundle, data, IMPOSSIBLE, keep_refused=True)
    assert (result.written, result.refused) == (bundle, True)
    opened = Bundle(bundle)
    assert refusal(opened.provenance, "fp16") == result.attempts[-1].failures
    assert any("macro AUC drops" in why for why in result.attempts[-1].failures)
    assert opened.provenance["variants"]["fp16"]["gate"]["onnxruntime"]["passed"] is False
    assert result.attempts[-1].speedups["onnxruntime"].median == 1.5
    assert Detector.load(bundle, threads=1).check(noise_image(3)).precision == "fp32"
    named = Detector.load(bundle, precision="fp16", threads=1).check(noise_image(3))
    assert named.precision == "fp16"
    assert named.reasons[-1].startswith("the fp16 variant was refused by its acceptance test: rounded: macro AUC drops")


def test_keeping_refused_variants_changes_nothing_for_one_that_is_accepted(bundle, data):
    result = make(bundle, data, keep_refused=True)
    assert (result.written, result.refused) == (bundle, False)
    assert accepted_backends(Bundle(bundle).provenance, "fp16") == ("onnxruntime",)
    before = files_of(bundle)
    refused = make(bundle, data, IMPOSSIBLE, keep_refused=True, replace=True)
    assert (refused.written, refused.refused) == (None, False)  # it would replace one that passed
    assert files_of(bundle) == before


def test_an_existing_variant_is_replaced_only_on_request(bundle, data):
    make(bundle, data)
    before = files_of(bundle)
    with pytest.raises(BundleError, match="already has an fp16 variant; give --replace"):
        make(bundle, data)
    assert files_of(bundle) == before
    assert make(bundle, data, replace=True).written == bundle
    assert files_of(bundle) == before  # the same graphs, fitted on the same images


def test_an_older_onnx_runtime_is_refused_in_one_line(bundle, data, monkeypatch):
    monkeypatch.setattr("onnxruntime.__version__", "1.24.1")
    with pytest.raises(BackendError, match=r"on ONNX Runtime 1\.24\.1: 1\.32 or newer is needed") as refused:
        make(bundle, data)
    assert "\n" not in str(refused.value)


def test_other_classes_and_a_bundle_with_float16_weights_are_refused(bundle, data, tmp_path):
    with pytest.raises(DataError, match="not in the order"):
        make(random_bundle(tmp_path / "other", spec=TINY_SPEC), data)
    make(bundle, data)
    opened = Bundle(bundle)
    files = {name: opened.read(name) for name in opened.file_sizes if "fp16" not in name}
    files["vae_encoder.fp32.onnx"] = opened.read("vae_encoder.fp16.onnx")
    files["decision.json"] = json.dumps({"fp32": opened.decisions["fp32"].to_json()}).encode()
    write_bundle(tmp_path / "half", SPEC, files, provenance={})
    with pytest.raises(ModelError, match="vae_encoder: the graph already has float16 weights"):
        make(tmp_path / "half", data)


def sd_bundle(path, gain):
    """Export a bundle with a random AutoencoderKL whose first convolution's output is scaled by `gain`."""
    diffusers = pytest.importorskip("diffusers", reason="AutoencoderKL comes from diffusers (extra train)")
    from leakrt.export.torch_export import export_module
    from leakrt.export.vae_graph import ScaledEncoder

    torch.manual_seed(0)
    kind = "DownEncoderBlock2D"
    model = diffusers.AutoencoderKL(
        down_block_types=(kind,) * 4, block_out_channels=(8, 8, 8, 16), norm_num_groups=4, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()  # fmt: skip
    with torch.no_grad():
        model.encoder.conv_in.weight *= gain
    vae = export_module(ScaledEncoder(model, 0.5), vae_encoder_graph(SPEC))
    shape = (len(SPEC.class_names), SPEC.prototypes_per_class, SPEC.embedding_dim)
    prototypes = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    write_bundle(
        path, SPEC, bundle_files(SPEC, vae, leak_encoder(SPEC, prototypes), prototypes=prototypes), provenance={}
    )
    return path


@pytest.mark.parametrize("gain", [1.0, 1e6])
def test_stable_diffusions_encoder_becomes_fp16_and_what_overflows_stays_float32(tmp_path, data, gain):
    path = sd_bundle(tmp_path / "sd", gain)
    result = make(path, data)
    assert result.written == path
    overflow = {node for _, node in result.steps[0].islands}
    assert bool(overflow) == (gain > 1)
    assert any("conv_in" in node for node in overflow) == (gain > 1)
    assert result.attempts[-1].step.half_share["vae_encoder"] >= 0.8
    half = onnx.load_model_from_string(Bundle(path).graph("vae_encoder", "fp16"))
    assert {t.data_type for t in half.graph.initializer} >= {10}
    verdict = Detector.load(path, precision="fp16", threads=1).check(noise_image(2))
    assert np.isfinite(list(verdict.scores.values())).all()


def test_the_variant_builds_with_tensorrt_rtx(bundle, data, tmp_path, monkeypatch):
    pytest.importorskip("tensorrt_rtx", reason="building needs tensorrt_rtx (extra rtx)")
    from leakrt.engines.build.build import BuildRequest, build_bundle
    from leakrt.engines.build.builder import BuildOptions
    from leakrt.engines.cache.cache import EngineCache
    from leakrt.engines.library.installed import load_flavour

    make(bundle, data)
    request = BuildRequest(
        precision="fp16", flavour=load_flavour("tensorrt-rtx"), options=BuildOptions(targets=("8.6",))
    )
    outcomes = build_bundle(Bundle(bundle), request, EngineCache(tmp_path / "cache", 1 << 30), progress=silent)
    assert all(outcome.built and "HALF" in {layer.dtype for layer in outcome.record.layers} for outcome in outcomes)
