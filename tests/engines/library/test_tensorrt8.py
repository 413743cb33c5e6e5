"""The dialect of 8.5, on stubs with the names of its bindings, and on the real bindings if installed."""

from __future__ import annotations

import pytest
from recording_tensorrt import ENGINE, RecordingTensorRT, set_flags

from leakrt.core.errors import EngineError, ModelError
from leakrt.core.progress import silent
from leakrt.engines.build.builder import BuildJob, BuildOptions, build_engine, flag_names
from leakrt.engines.library.tensorrt8 import TensorRT8

OLD = "8.5.3.1"


def build(trt, precision="fp16", **options):
    job = BuildJob(
        name="vae_encoder",
        model=b"onnx",
        precision=precision,
        batches=(1, 4),
        options=BuildOptions(**options),
        device=0,
        timing=b"learned",
    )
    return build_engine(TensorRT8(trt, OLD), job, False, progress=silent)


@pytest.mark.parametrize(
    ("precision", "flags"),
    [("fp32", set()), ("fp16", {"FP16"}), ("int8", {"FP16", "INT8"})],
    ids=["fp32", "fp16", "int8"],
)
def test_builder_flags_follow_the_types_in_the_onnx(precision, flags):
    trt = RecordingTensorRT(OLD)
    assert build(trt, precision).data == ENGINE
    assert set_flags(trt) == flags
    assert trt.network_flags == 1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)
    assert [flag.name for (flag,) in trt.config.called("clear_flag")] == ["TF32"]
    assert set(flag_names(TensorRT8(trt, OLD), precision, BuildOptions())) == flags | {"NO_TF32"}


def test_no_tactic_needs_cudnn_or_cublas():
    trt = RecordingTensorRT(OLD)
    build(trt)
    ((sources,),) = trt.config.called("set_tactic_sources")
    chosen = {source.name for source in trt.TacticSource if sources >> int(source) & 1}
    assert chosen == {"EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"}


def test_options_that_8_5_lacks_are_not_set():
    trt = RecordingTensorRT(OLD)
    build(trt, workspace=64)
    assert not {"progress_monitor", "builder_optimization_level"} & (set(trt.config.set) | trt.config.names)
    assert trt.config.called("set_memory_pool_limit") == [(trt.MemoryPoolType.WORKSPACE, 64 << 20)]


def test_each_batch_has_a_profile_and_the_timing_cache_is_returned():
    trt = RecordingTensorRT(OLD)
    built = build(trt)
    assert trt.profiles == [{"image": ((batch, 3, 40, 40),) * 3} for batch in (1, 4)]
    assert trt.config.called("create_timing_cache") == [(b"learned",)]
    assert built.timing == b"learned and more"


def test_a_dla_runs_fp16_with_gpu_fallback():
    trt = RecordingTensorRT(OLD, cores=2)
    build(trt, dla_core=1)
    assert set_flags(trt) == {"FP16", "GPU_FALLBACK"}
    assert (trt.config.set["default_device_type"].name, trt.config.set["DLA_core"]) == ("DLA", 1)
    flavour = TensorRT8(trt, OLD)
    assert flavour.dla_problem("fp16") == ""
    assert "use --precision fp16" in flavour.dla_problem("int8")


def test_a_missing_dla_is_refused():
    with pytest.raises(EngineError, match=r"--dla 0: this machine has no DLA .*omit --dla"):
        build(RecordingTensorRT(OLD), dla_core=0)


def test_a_failed_build_gives_its_reason_in_one_line():
    with pytest.raises(
        EngineError, match=r"TensorRT 8.5.3.1 failed to build the engine: out of GPU memory: 512 MiB requested"
    ):
        build(RecordingTensorRT(OLD, fails="OutOfMemory (Requested size was 536870912 bytes.)"))


def test_an_opset_above_17_is_refused(variants):
    pytest.importorskip("onnx")
    from leakrt.core.bundle import Bundle
    from leakrt.engines.build.build import bundle_graphs
    from leakrt.engines.build.derive import derive_graph

    onnx = pytest.importorskip("onnx")
    bundle = Bundle(variants)
    graph = bundle_graphs(bundle)[0]
    model = onnx.load_model_from_string(bundle.graph(graph.stem, "fp32"))
    model.opset_import[0].version = 18
    with pytest.raises(ModelError, match=r"TensorRT 8.5.3.1 doesn't support opset 18 \(at most 17\)"):
        derive_graph(model.SerializeToString(), graph, "fp32", flavour=TensorRT8(RecordingTensorRT(OLD), OLD))


def test_the_real_bindings_select_this_dialect_and_need_a_driver(no_gpu):
    trt = pytest.importorskip(
        "tensorrt", reason="TensorRT 8.5 is not installed; its bindings need Python 3.10 or older"
    )
    if not trt.__version__.startswith("8.5"):
        pytest.skip(f"tensorrt {trt.__version__} is installed, not 8.5")
    from leakrt.engines.library.installed import load_flavour

    flavour = load_flavour("tensorrt")
    assert isinstance(flavour, TensorRT8)
    assert flavour.network_flags(False) == 1
    with pytest.raises(EngineError, match="no NVIDIA driver here"):
        build(trt)
