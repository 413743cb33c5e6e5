"""Building one graph: option checks, errors, Ctrl-C and build information."""

from __future__ import annotations

import threading
import time

import pytest
from recording_tensorrt import RecordingTensorRT

from leakrt.core.bundle import Bundle
from leakrt.core.errors import BackendError, EngineError, UsageError
from leakrt.core.progress import silent
from leakrt.engines.build.builder import BuildJob, BuildOptions, build_engine, graph_batches
from leakrt.engines.library.tensorrt10 import TensorRT10

NEW = "10.13.3.9"
JOB = BuildJob(name="vae_encoder", model=b"onnx", precision="fp16", batches=(1,), options=BuildOptions(), device=0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batches": ()}, "--batch: got 0 sizes"),
        ({"batches": tuple(range(1, 18))}, "--batch: got 17 sizes; give 1 to 16"),
        ({"batches": (0,)}, "--batch: invalid size; give distinct sizes between 1 and 4096"),
        ({"batches": (4097,)}, "--batch: invalid size; give distinct sizes between 1 and 4096"),
        ({"batches": (2, 2)}, "--batch: invalid size; give distinct sizes"),
        ({"level": -1}, "--opt-level -1: out of range; give 0 to 5"),
        ({"level": 6}, "--opt-level 6"),
        ({"workspace": -1}, "--workspace -1"),
        ({"dla_core": -2}, "--dla -2"),
    ],
)
def test_invalid_options_are_refused_by_name(options, words):
    with pytest.raises(UsageError, match=words):
        BuildOptions(**options)


@pytest.mark.parametrize(("samples", "batches"), [(1, (1, 4)), (3, (3, 12))])
def test_batches_are_multiplied_by_the_samples_per_image(samples, batches):
    assert graph_batches((1, 4), samples) == batches


class Slow(RecordingTensorRT):
    """A library with a slow builder that polls for cancellation after each step."""

    def __init__(self, stops: bool) -> None:
        super().__init__(NEW)
        self.stops, self.stopped = stops, threading.Event()


def slow(trt: Slow) -> TensorRT10:
    """Return a flavour whose builds run until they are cancelled."""

    class Flavour(TensorRT10):
        def watch(self, config, monitor):
            for step in range(1000):
                if not monitor.step("build", step):
                    trt.stopped.set()
                    return
                time.sleep(0.01)

    return Flavour(trt, NEW)


def test_ctrl_c_stops_the_build_itself():
    trt, seen = Slow(True), []

    def progress(task, done, total):
        seen.append(done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build_engine(slow(trt), JOB, False, progress=progress)
    assert trt.stopped.is_set()
    assert time.monotonic() - begin < 5


def test_ctrl_c_does_not_wait_for_a_builder_that_never_polls():
    class Unresponsive(TensorRT10):
        def watch(self, config, monitor):
            time.sleep(3)

    def progress(task, done, total):
        raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build_engine(Unresponsive(RecordingTensorRT(NEW), NEW), JOB, False, progress=progress)
    assert time.monotonic() - begin < 2


def test_a_failed_build_is_explained_by_the_builders_messages():
    trt = RecordingTensorRT(NEW, fails="Error Code 2: OutOfMemory (Requested size was 2147483648 bytes.)")
    words = "vae_encoder: TensorRT 10.13.3.9 failed to build the engine: out of GPU memory: 2048 MiB requested; use"
    with pytest.raises(EngineError, match=words):
        build_engine(TensorRT10(trt, NEW), JOB, False, progress=silent)


def test_a_library_that_fails_to_start_gives_its_reason(no_gpu):
    class Broken(RecordingTensorRT):
        def __getattr__(self, name):
            if name != "Builder":
                return super().__getattr__(name)

            def builder(logger):
                logger.log(2, "CUDA initialization failure with error: 35")
                raise TypeError("factory function returned nullptr")

            return builder

    with pytest.raises(EngineError, match=r"TensorRT 10.13.3.9 failed to start: no NVIDIA driver here"):
        build_engine(TensorRT10(Broken(NEW), NEW), JOB, False, progress=silent)


def test_a_missing_dla_is_refused_with_the_machines_that_have_one():
    job = BuildJob(
        name="vae_encoder", model=b"onnx", precision="fp16", batches=(1,), options=BuildOptions(dla_core=1), device=0
    )
    for cores, words in ((0, "has no DLA .AGX Orin"), (1, "has 1 DLA cores")):
        with pytest.raises(EngineError, match=f"--dla 1: this machine {words}"):
            build_engine(TensorRT10(RecordingTensorRT("10.3.0", cores=cores), "10.3.0"), job, False, progress=silent)


def test_without_a_gpu_a_build_that_needs_one_is_refused(no_gpu):
    with pytest.raises(BackendError, match="no NVIDIA driver here"):
        build_engine(TensorRT10(RecordingTensorRT(NEW), NEW), JOB, True, progress=silent)


def test_a_failed_real_build_gives_its_reason(rtx, variants, no_gpu):
    model = Bundle(variants).graph("vae_encoder", "fp32")
    job = BuildJob(
        name="vae_encoder",
        model=model,
        precision="fp32",
        batches=(1,),
        options=BuildOptions(targets=("current",)),
        device=0,
    )
    with pytest.raises(EngineError, match="failed to build the engine: no NVIDIA driver here"):
        build_engine(rtx, job, False, progress=silent)


def test_memory_and_compiled_layers_come_from_the_build_log(rtx, variants):
    model = Bundle(variants).graph("vae_encoder", "fp32")
    job = BuildJob(
        name="vae_encoder",
        model=model,
        precision="fp32",
        batches=(2,),
        options=BuildOptions(targets=("8.6",)),
        device=0,
    )
    built = build_engine(rtx, job, False, progress=silent)
    assert built.memory["weights"] > 0
    assert built.memory["activations"] > 0
    assert built.timing == b""
    assert {node for layer in built.compiled for node in layer.nodes} >= {
        layer.name for layer in built.layers if layer.kind == "CONVOLUTION"
    }
