"""The dialect of 10 and 11, on stubs with the names of each version's bindings."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from recording_tensorrt import VERSIONS, RecordingTensorRT, set_flags

from leakrt.core.errors import UsageError
from leakrt.core.progress import silent
from leakrt.engines.build.builder import BuildJob, BuildOptions, build_engine, flag_names
from leakrt.engines.library.tensorrt10 import TensorRT10

TENS = [v for v in VERSIONS if v.startswith("10.")]
ALL = [*TENS, "11.4.0.106"]


def build(trt, precision="fp16", progress=silent, **options):
    job = BuildJob(
        name="vae_encoder",
        model=b"onnx",
        precision=precision,
        batches=(1,),
        options=BuildOptions(**options),
        device=0,
        timing=b"",
    )
    return build_engine(TensorRT10(trt, trt.__version__), job, False, progress=progress)


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_types_come_only_from_the_onnx(version, precision):
    trt = RecordingTensorRT(version)
    build(trt, precision, level=5)
    assert trt.network_flags == 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    assert set_flags(trt) == set()
    assert trt.config.set["builder_optimization_level"] == 5
    assert flag_names(TensorRT10(trt, version), precision, BuildOptions()) == ("NO_TF32", "STRONGLY_TYPED")


@pytest.mark.parametrize("version", ALL)
def test_the_builder_reports_its_progress(version):
    seen = []
    build(RecordingTensorRT(version), progress=lambda task, done, total: seen.append(done))
    assert seen[-1] == 100
    assert seen == sorted(seen)


def test_a_cancelled_monitor_stops_the_builder():
    from leakrt.engines.library.flavour import Monitor
    from leakrt.engines.library.tensorrt10 import _progress_monitor

    monitor = Monitor()
    reporter = _progress_monitor(RecordingTensorRT(TENS[0]), monitor)
    reporter.phase_start("build", None, 4)
    assert reporter.step_complete("build", 0)
    monitor.cancelled = True
    assert not reporter.step_complete("build", 1)


def test_a_dla_of_10_3_gets_its_types_from_flags():
    trt = RecordingTensorRT("10.3.0", cores=2)
    build(trt, "fp16", dla_core=0)
    assert trt.network_flags == 0
    assert set_flags(trt) == {"FP16", "GPU_FALLBACK"}
    assert flag_names(TensorRT10(trt, "10.3.0"), "fp16", BuildOptions(dla_core=0)) == (
        "DLA", "FP16", "GPU_FALLBACK", "NO_TF32",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("version", "precision", "words"),
    [
        ("10.3.0", "fp16", ""),
        ("10.7.0", "fp16", ""),
        ("10.3.0", "int8", "can't run int8 graphs with TensorRT 10.3.0; use --precision fp16"),
        ("10.3.0", "fp32", "can't run fp32 graphs"),
        ("10.8.0", "fp16", "doesn't support DLAs; use 10.7 or earlier, or 11.4.1"),
        ("10.13.3.9", "fp16", "doesn't support DLAs"),
        ("11.4.0.106", "fp16", "doesn't support DLAs"),
        ("11.4.1.5", "fp16", ""),
        ("11.4.1.5", "int8", ""),
        ("11.4.1.5", "fp32", "can't run fp32 graphs"),
    ],
)
def test_a_dla_is_refused_for_an_unsupported_version_or_precision(version, precision, words):
    problem = TensorRT10(RecordingTensorRT("10.3.0"), version).dla_problem(precision)
    assert words in problem
    assert bool(problem) == bool(words)


def test_a_target_is_refused_with_the_flavour_that_supports_it():
    flavour = TensorRT10(RecordingTensorRT("10.3.0"), "10.3.0")
    flavour.check_targets(())
    with pytest.raises(UsageError, match="builds only for the GPU of this machine; use --flavour tensorrt-rtx"):
        flavour.check_targets(("8.6",))


@pytest.mark.parametrize("version", ALL)
def test_the_memory_of_a_context_is_read_from_an_attribute_that_11_has(version):
    assert "device_memory_size_v2" in RecordingTensorRT(version).names("ICudaEngine")
    assert TensorRT10(None, version).device_memory(SimpleNamespace(device_memory_size_v2=7)) == 7
