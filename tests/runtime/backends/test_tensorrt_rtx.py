"""The tensorrt_rtx backend, with engines for several GPUs, on fake GPUs in host memory."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the stand-in for TensorRT-RTX needs onnx")
from engine_records import GPU
from host_chain import HostGpus
from recording_tensorrt import VERSIONS
from reused_buffers import distinct_frames, wrong_scores

from leakrt import Detector
from leakrt.core.errors import EngineError
from leakrt.core.images import find_images
from leakrt.engines.library.device import NO_DEVICE
from leakrt.runtime.backends import tensorrt_rtx

VERSION = VERSIONS[-1]


@pytest.fixture
def gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = HostGpus(monkeypatch, 2, VERSION, backend="tensorrt_rtx")
    yield made
    assert made.held == 0


def scores(verdicts) -> np.ndarray:
    return np.array([list(verdict.scores.values()) for verdict in verdicts])


@pytest.mark.parametrize("targets", [("8.6", "8.9"), ("8.9",), ("default",)])
def test_an_engine_for_this_capability_among_others_gives_the_verdicts_of_the_cpu(gpus, tiny, image_folder, targets):
    gpus.build(tiny, "fp32", (1, 4), device=NO_DEVICE, targets=targets)
    paths = find_images(image_folder(6))
    wanted = Detector.load(tiny, backend="onnxruntime", threads=1).check_batch(paths)
    detector = Detector.load(tiny, backend="tensorrt_rtx", threads=1)
    found = detector.check_batch(paths)
    described = detector.describe()
    detector.close()
    assert np.abs(scores(found) - scores(wanted)).max() <= 1e-5
    assert {verdict.backend for verdict in found} == {"tensorrt_rtx"}
    assert (described.backend, described.version) == ("tensorrt_rtx", VERSION)


def test_reused_buffers_do_not_mix_frames(gpus, tiny):
    gpus.build(tiny, "fp32", (1, 4), device=NO_DEVICE, targets=("default",))
    detector = Detector.load(tiny, backend="tensorrt_rtx", threads=1)
    given = distinct_frames(24)
    assert [
        wrong_scores(detector, given, ring, batch=batch, tolerance=1e-5) for ring in (1, 3) for batch in (1, 8)
    ] == [0] * 4
    detector.close()


def test_an_unsupported_gpu_is_reported_before_the_engine_lookup(gpus, tiny):
    gpus.build(tiny, "fp32", device=NO_DEVICE, targets=("default",))
    gpus.found[0] = replace(GPU, name="H100", capability="9.0")
    with pytest.raises(EngineError, match=r"does not run on compute capability 9\.0; for 9\.0 \(H100 and H200\)"):
        Detector.load(tiny, backend="tensorrt_rtx", threads=1)


def test_an_engine_may_come_from_another_driver_and_gpu_of_its_capability(gpus, tiny, image_folder):
    gpus.build(tiny, "fp32", device=NO_DEVICE, targets=("8.9",))
    gpus.found[0] = replace(GPU, name="another 8.9", multiprocessors=9, driver="999.1")
    detector = Detector.load(tiny, backend="tensorrt_rtx", threads=1)
    assert len(detector.check_batch(find_images(image_folder(2)))) == 2
    detector.close()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"targets": ("8.6", "12.0")}, "it is for compute capability 8.6, 12.0, and GPU A has 8.9"),
        ({"targets": ("8.9",), "version": "1.0"}, f"it was built with tensorrt-rtx 1.0, and tensorrt-rtx {VERSION} is"),
        ({"targets": ("8.9",), "flavour": "tensorrt"}, "it was built with tensorrt "),
    ],
)
def test_unsuitable_engines_raise_an_error_with_the_build_command(gpus, tiny, changed, why):
    gpus.build(tiny, "fp32", **{"device": NO_DEVICE, **changed})
    with pytest.raises(EngineError, match=rf"{why}.*leakrt build .* --precision fp32 --flavour tensorrt-rtx"):
        Detector.load(tiny, backend="tensorrt_rtx")
    assert gpus.trt.deserialized == 0


def test_it_runs_from_the_command_line(gpus, tiny, image_folder, leakrt):
    gpus.build(tiny, "fp32", device=NO_DEVICE, targets=("8.9",))
    done = leakrt("check", tiny, image_folder(2), "--backend", "tensorrt_rtx", "--json")
    assert (done.code, [json.loads(line)["backend"] for line in done.lines]) == (0, ["tensorrt_rtx"] * 2)


def test_its_probe_checks_its_library():
    assert tensorrt_rtx.KIND.name == tensorrt_rtx.probe().backend == "tensorrt_rtx"
