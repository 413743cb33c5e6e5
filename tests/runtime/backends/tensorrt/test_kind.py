"""The Detector on the tensorrt backend, with a fake GPU in host memory."""

from __future__ import annotations

import gc
import json
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx", reason="graphs and the stand-in for TensorRT need onnx")
from bundles import leak_encoder
from engine_records import GPU
from guarded import BRIGHT, SPEC, frames, guarded_bundle
from host_chain import VERSION
from reused_buffers import distinct_frames, refilled, wrong_scores

from leakrt import Detector
from leakrt.core.errors import BackendError, BundleError, EngineError, ParityError, UsageError
from leakrt.core.images import find_images
from leakrt.core.verdict import Face
from leakrt.engines.cache.cache import default_cache
from leakrt.runtime.backends import tensorrt_rtx
from leakrt.runtime.backends.tensorrt import kind as tensorrt
from leakrt.runtime.backends.tensorrt.slot import STAGES
from leakrt.runtime.faces import FaceCrop
from leakrt.runtime.finite import Counters

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
NAN = ("vae_encoder", "latent", math.nan)
GATED = {"fp16": {"onnxruntime": {"passed": True}}, "int8": {"onnxruntime": {"passed": False}}}


@pytest.fixture
def detector(gpus, tiny):
    """The tiny bundle on the first GPU, with two batch sizes."""
    gpus.build(tiny, "fp32", (1, 4))
    with_gpu = Detector.load(tiny, backend="tensorrt", threads=1)
    yield with_gpu
    with_gpu.close()


@pytest.fixture
def reference(tiny):
    return Detector.load(tiny, backend="onnxruntime", threads=1)


def scores(verdicts) -> np.ndarray:
    return np.array([list(v.scores.values()) for v in verdicts])


def same(found, expected) -> None:
    """Assert equal verdicts up to rounding, in the same order."""
    assert [(v.path, v.verdict, v.label, v.face, v.reasons, v.error) for v in found] == [
        (v.path, v.verdict, v.label, v.face, v.reasons, v.error) for v in expected
    ]
    judged = [(f, e) for f, e in zip(found, expected, strict=True) if e.scores]
    assert all(np.abs(scores([f]) - scores([e])).max() <= 1e-5 for f, e in judged)
    assert all(f.log_density == pytest.approx(e.log_density, abs=1e-3) for f, e in judged)


def test_every_api_gives_the_verdicts_of_the_cpu(detector, reference, image_folder):
    paths = find_images(image_folder(11))
    expected = reference.check_batch(paths)
    ways = [[detector.check(path) for path in paths], detector.check_batch(paths)]
    ways += [list(detector.check_stream(paths, batch=batch)) for batch in (1, 2, 3, 8, 50)]
    ways += [[analysis.verdict for path in paths for analysis in detector.analyse(path)]]
    for verdicts in ways:
        same(verdicts, expected)
    assert {v.backend for v in verdicts} == {"tensorrt"}


def test_photographs_of_any_size_give_the_verdicts_of_the_cpu(detector, reference, shared):
    paths = find_images(shared("leakbench/test"))[:12]
    same(list(detector.check_stream(paths, batch=5)), reference.check_batch(paths))


def test_a_verdict_names_the_stages_of_the_device(detector, image_folder):
    (path,) = find_images(image_folder(1))
    assert set(detector.check(path).latency_ms) == {"decode", *STAGES, "wait", "decision"}
    described = detector.describe()
    assert (described.backend, described.version, described.precision) == ("tensorrt", VERSION, "fp32")
    assert described.device_bytes > 0


def test_frames_are_not_preprocessed_on_the_cpu(detector, monkeypatch, image_folder):
    from leakrt.runtime import pipeline

    paths = find_images(image_folder(3))
    monkeypatch.setattr(pipeline._core, "preprocess", None)
    assert len(list(detector.check_stream(paths))) == 3


def test_an_unreadable_image_keeps_its_position_in_the_stream(detector, reference, image_folder):
    paths = [*find_images(image_folder(5)), "/nowhere.png"]
    order = [paths[i] for i in (0, 5, 1, 2, 5, 3, 4)]
    same(list(detector.check_stream(order, batch=2)), list(reference.check_stream(order, batch=2)))


def test_every_face_is_classified_and_no_face_is_not_an_error(detector, reference, image_folder):
    path = find_images(image_folder(1))[0]
    frame = np.random.default_rng(0).integers(0, 256, (150, 211, 3), dtype=np.uint8)
    places = (9, 7, 111, 81), (3, 60, 47, 90)
    crops = [FaceCrop(Face(i, (x, y, w, h)), frame[y : y + h, x : x + w]) for i, (x, y, w, h) in enumerate(places)]
    for found in (crops, []):
        for one in (detector, reference):
            one._preparer._faces = type("Finder", (), {"find": lambda self, image, found=found: found})()
        same(detector.check_faces(frame), reference.check_faces(frame))
        same(list(detector.check_stream([path, frame])), list(reference.check_stream([path, frame])))


def test_an_analysis_keeps_the_pixels_that_were_classified(detector, image_folder):
    (path,) = find_images(image_folder(1))
    (analysis,) = detector.analyse(path)
    np.testing.assert_array_equal(analysis.evidence.pixels, np.asarray(Image.open(path).convert("RGB"))[:, :, ::-1])
    assert len(analysis.evidence.outputs.scores) == 1


@pytest.mark.parametrize("ring", [1, 2, 5, 20])
def test_reused_buffers_do_not_mix_frames(detector, ring):
    given = distinct_frames(24)
    assert [wrong_scores(detector, given, ring, batch=batch, tolerance=1e-5) for batch in (1, 3, 8, 16)] == [0] * 4
    expected = detector.check_batch(given)
    same(detector.check_batch(refilled(given, ring)), expected)


def test_an_error_of_the_source_is_raised_after_the_verdicts_of_earlier_images(detector, reference):
    given = distinct_frames(9)

    def source():
        yield from given
        raise OSError("the camera is gone")

    stream, found = detector.check_stream(source(), batch=2), []
    with pytest.raises(OSError, match="the camera is gone"):
        found.extend(next(stream) for _ in range(10))
    same(found, reference.check_batch(given))


def test_calls_from_many_threads_get_their_own_verdicts(detector, reference, image_folder):
    paths = find_images(image_folder(6))
    expected = reference.check_batch(paths)

    def judge(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(6)
        given = [paths[i] for i in order]
        found = list(detector.check_stream(given, batch=2)) if seed % 2 else detector.check_batch(given)
        same(found, [expected[i] for i in order])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(judge, range(12)))
    assert detector.counters == Counters(images=72)


def test_the_next_batch_begins_before_the_verdicts_of_the_last_are_returned(detector, image_folder):
    paths = find_images(image_folder(8))
    stream = detector.check_stream(paths, batch=1)
    begun = []
    submit = detector._guarded.variant.backend.submit
    detector._guarded.variant.backend.submit = lambda given: begun.append(len(given)) or submit(given)
    next(stream)
    assert len(begun) == detector._ahead > 1  # and no more: a slow reader holds the stream back
    stream.close()


def test_abandoning_a_stream_leaves_the_detector_usable(detector, image_folder):
    paths = find_images(image_folder(9))
    for _ in range(3):
        next(detector.check_stream(paths, batch=2))
    assert len(detector.check_batch(paths)) == 9


def test_closing_in_any_order_frees_the_device(gpus, tiny, image_folder):
    gpus.build(tiny, "fp32")
    paths = find_images(image_folder(9))
    first, second, forgotten = (Detector.load(tiny, backend="tensorrt", threads=1) for _ in range(3))
    second.check_batch(paths)
    first.close()
    same(second.check_batch(paths), forgotten.check_batch(paths))
    stream = second.check_stream(paths, batch=1)
    next(stream)
    del forgotten
    second.close()
    second.close()
    for ended in (lambda: list(stream), lambda: first.check(paths[0]), lambda: second.check(paths[0])):
        with pytest.raises(BackendError, match="the GPU runner is closed; load the detector again"):
            ended() or pytest.fail("it was not refused")


def test_an_unreferenced_detector_frees_the_gpu_at_once(gpus, tiny, image_folder):
    """It has no reference cycle, so it is freed without the garbage collector."""
    gpus.build(tiny, "fp32")
    paths = find_images(image_folder(3))
    gc.disable()
    try:
        detector = Detector.load(tiny, backend="tensorrt", threads=1)
        stream = detector.check_stream(paths, batch=1)
        next(stream)
        detector.analyse(paths[0])
        assert gpus.held > 0
        del stream, detector
        assert gpus.held == 0
    finally:
        gc.enable()


def test_a_batch_that_does_not_fit_is_logged_and_smaller_ones_run(gpus, tiny, reference, image_folder, caplog):
    gpus.build(tiny, "fp32", (1, 256))
    gpus.options = {"limit": 5 << 20}
    paths = find_images(image_folder(5))
    with caplog.at_level(logging.WARNING):
        detector = Detector.load(tiny, backend="tensorrt", threads=1)
    assert "batch 256 does not fit into memory, so the largest is 1" in caplog.text
    assert "out of GPU memory while allocating" in caplog.text
    same(detector.check_batch(paths), reference.check_batch(paths))
    detector.close()


def test_a_batch_of_large_frames_is_halved_and_a_too_large_frame_is_an_error(gpus, tiny, reference, caplog):
    gpus.build(tiny, "fp32", (4,))
    plain = Detector.load(tiny, backend="tensorrt")
    gpus.options = {"limit": gpus.held + (15 << 20)}  # four frames need 20, two need 10
    plain.close()
    detector = Detector.load(tiny, backend="tensorrt", threads=1)
    large = [np.random.default_rng(i).integers(0, 256, (900, 901, 3), dtype=np.uint8) for i in range(4)]
    same(detector.check_batch(large), reference.check_batch(large))
    assert caplog.text.count("continuing with smaller batches: out of GPU memory while ") == 1
    with pytest.raises(BackendError, match=r"MiB for the staging buffer of frames of 3000 x 2000"):
        detector.check(np.zeros((2000, 3000, 3), np.uint8))
    same(detector.check_batch(large[:1]), reference.check_batch(large[:1]))
    detector.close()


def test_a_non_finite_output_is_recomputed_on_the_safer_engines(gpus, tmp_path):
    path = guarded_bundle(tmp_path / "b", {"fp16": NAN}, gates=GATED)
    for precision in ("fp16", "fp32"):
        gpus.build(path, precision)
    detector = Detector.load(path, backend="tensorrt", precision="fp16", threads=1)
    found, expected = (
        detector.check_batch(frames(5, 2)),
        Detector.load(path, backend="onnxruntime", precision="fp32").check_batch(frames(5, 2)),
    )
    assert [v.precision for v in found] == ["fp16", "fp16", "fp32", "fp16", "fp16"]
    assert (
        found[2].reasons[-1].startswith("fp16: the VAE encoder returned a value that is not finite; classified at fp32")
    )
    assert np.abs(scores(found) - scores(expected)).max() <= 5e-2
    assert detector.counters == Counters(images=5, caught=1, retried=1, rescued=1)
    detector.close()


def test_without_safer_engines_it_abstains_and_names_the_build_command(gpus, tmp_path):
    path = guarded_bundle(tmp_path / "b", {"fp16": NAN}, gates=GATED)
    gpus.build(path, "fp16")
    detector = Detector.load(path, backend="tensorrt", precision="fp16", threads=1)
    verdict = detector.check(BRIGHT)
    assert verdict.verdict == "abstain"
    assert f"leakrt build {path} --precision fp32" in verdict.reasons[1]
    detector.close()


def test_a_variant_may_be_named_if_its_graphs_passed_and_auto_needs_a_pass_on_this_backend(gpus, tmp_path):
    path = guarded_bundle(tmp_path / "b", {}, gates=GATED)
    for precision in ("int8", "fp16", "fp32"):
        gpus.build(path, precision)

    def taken(backend, precision):
        detector = Detector.load(path, backend=backend, precision=precision, threads=1)
        described = detector.describe()
        detector.close()
        return described.backend, described.precision

    assert taken("tensorrt", "fp16") == ("tensorrt", "fp16")
    assert taken("tensorrt", "auto") == ("tensorrt", "fp32")
    assert taken("auto", "auto")[0] != "tensorrt"
    with pytest.raises(BundleError, match="int8 has not passed its acceptance test on tensorrt"):
        Detector.load(path, backend="tensorrt", precision="int8")
    measured = guarded_bundle(tmp_path / "m", {}, gates={"fp16": {"tensorrt": {"passed": True}}})
    gpus.build(measured, "fp16")
    path = measured
    assert taken("auto", "auto") == ("tensorrt", "fp16")


def test_engines_that_fail_the_golden_image_are_refused_and_freed(gpus, tmp_path):
    path = guarded_bundle(tmp_path / "b", {}, gates=GATED)
    shape = (len(SPEC.class_names), SPEC.prototypes_per_class, SPEC.embedding_dim)
    other = leak_encoder(SPEC, np.zeros(shape, np.float32), seed=99)
    gpus.build(path, "fp16", graphs={"leak_encoder": other})
    with pytest.raises(ParityError, match="fp16 on tensorrt changes the golden image's scores"):
        Detector.load(path, backend="tensorrt", precision="fp16")
    assert gpus.held == 0


def test_without_engines_the_error_names_the_command_and_builds_nothing(gpus, tiny):
    with pytest.raises(EngineError) as error:
        Detector.load(tiny, backend="tensorrt")
    assert str(error.value) == (
        f"no fp32 engines of {tiny} for TensorRT {VERSION} on GPU A (vae_encoder: not built yet; leak_encoder: not "
        f"built yet); build them with: leakrt build {tiny} --precision fp32"
    )
    assert gpus.opened == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"flavour": "tensorrt-rtx"}, "it was built with tensorrt-rtx"),
        ({"version": "10.3.0"}, f"it was built with tensorrt 10.3.0, and tensorrt {VERSION} is installed"),
        ({"recipe": -1}, "it was built by another version of LeakRT"),
        ({"device": replace(GPU, name="GPU Z")}, r"it was built on GPU Z .*, and this is GPU A"),
    ],
)
def test_unsuitable_engines_raise_an_error_with_the_build_command(gpus, tiny, changed, why):
    gpus.build(tiny, "fp32", **changed)
    with pytest.raises(EngineError, match=rf"{why}.*; build them with: leakrt build .* --precision fp32$"):
        Detector.load(tiny, backend="tensorrt")
    assert gpus.trt.deserialized == 0


@pytest.mark.parametrize(("keep", "why"), [(0.5, "it is truncated"), (1.0, r"changed \(SHA-256 differs\)")])
def test_a_damaged_engine_is_never_deserialized(gpus, tiny, keep, why):
    gpus.build(tiny, "fp32")
    path = default_cache().engines()[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(EngineError, match=rf"{why}.*; build them with: leakrt build"):
        Detector.load(tiny, backend="tensorrt")
    assert gpus.trt.deserialized == 0


def test_the_second_gpu_is_selected_by_its_number(gpus, tiny, image_folder):
    gpus.build(tiny, "fp32", device=gpus.found[1])
    detector = Detector.load(tiny, backend="tensorrt", device=1)
    detector.check_batch(find_images(image_folder(2)))
    assert [number for number, _ in gpus.opened] == [1]
    detector.close()
    with pytest.raises(EngineError, match=r"it was built on GPU B .*, and this is GPU A"):
        Detector.load(tiny, backend="tensorrt", device=0)


@pytest.mark.parametrize("number", [2, -1])
def test_an_unknown_gpu_number_is_refused_with_the_valid_ones(gpus, tiny, number):
    with pytest.raises(BackendError, match=rf"--device {number}: no such GPU; this machine has 0: GPU A, 1: GPU B"):
        Detector.load(tiny, backend="tensorrt", device=number)


def test_the_command_line_selects_a_gpu_by_its_number(gpus, tiny, image_folder, leakrt):
    gpus.build(tiny, "fp32", device=gpus.found[1])
    where = ("--backend", "tensorrt", "--precision", "fp32", "--device")
    done = leakrt("check", tiny, image_folder(2), *where, 1, "--json")
    assert (done.code, len(done.lines)) == (0, 2)
    timed = leakrt("profile", tiny, *where, 1, "--seconds", 0.1, "--batch", 1, "--cold-starts", 0, "--json")
    assert json.loads(timed.out)["device"] == "host memory"
    assert {number for number, _ in gpus.opened} == {1}
    for verb in (("check", tiny, image_folder(1, "more")), ("profile", tiny, "--cold-starts", 0)):
        wrong = leakrt(*verb, *where, 5)
        assert (wrong.code, wrong.err.strip().count("\n")) == (1, 0)
        assert "--device 5: no such GPU; this machine has 0: GPU A, 1: GPU B" in wrong.err


def test_a_cpu_backend_refuses_a_gpu_number(tiny):
    with pytest.raises(UsageError, match="--device 1: onnxruntime runs on the CPU; omit it"):
        Detector.load(tiny, backend="onnxruntime", device=1)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("tensorrt", "tensorrt is not installed"),
        ("pycuda", "PyCUDA is not installed"),
        ("kernels", "LeakRT was built without its CUDA kernels"),
        ("driver", "no NVIDIA driver here"),
        ("old", "the driver supports CUDA up to 11.4, but LeakRT's kernels were built with 13.0"),
        ("version", "TensorRT 9.1 is not supported; install 8.5"),
        ("", ""),
    ],
)
def test_a_probe_names_the_first_thing_that_is_missing(monkeypatch, missing, said):
    from leakrt.engines.library import device, installed
    from leakrt.engines.library.tensorrt10 import TensorRT10
    from leakrt.runtime.doctor import toolkit

    started = []

    def find_driver():
        started.append(1)
        gone = device.Driver(library=None, problem="no NVIDIA driver here", cuda="")
        return (
            gone
            if missing == "driver"
            else device.Driver(library=object(), problem="", cuda="11.4" if missing == "old" else "13.0")
        )

    def load_flavour(name):
        if missing == "version":
            raise BackendError(said)
        return TensorRT10(None, "10.3.0")

    kernels = toolkit.KernelBuild(problem=said) if missing == "kernels" else toolkit.KernelBuild("13.0", "86-real")
    monkeypatch.setattr(tensorrt.importlib.util, "find_spec", lambda name: None if name == missing else object())
    monkeypatch.setattr(toolkit, "find_kernels", lambda: kernels)
    monkeypatch.setattr(device, "find_driver", find_driver)
    monkeypatch.setattr(installed, "load_flavour", load_flavour)
    found = tensorrt.probe()
    assert found.version == ("" if missing == "tensorrt" else "10.3.0" if not missing else "another build")
    assert (found.backend, found.runs, found.reason) == ("tensorrt", not said, said)
    assert bool(found.install) == bool(said)
    assert bool(started) == (missing in ("driver", "old", "version", ""))  # CUDA is not initialized needlessly


@pytest.mark.parametrize("backend", [tensorrt, tensorrt_rtx])
def test_the_probe_works_on_this_machine(backend):
    found = backend.probe()
    assert found.backend == backend.NAME
    assert found.runs or (found.reason and "\n" not in found.reason)
