"""Streams: every frame gets its own verdict, whatever its source does."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest
from PIL import Image
from reused_buffers import distinct_frames, refilled, wrong_scores

from leakrt import Detector
from leakrt.core.errors import UsageError

FRAMES = distinct_frames(24)


@pytest.fixture(scope="module")
def detector(tiny):
    return Detector.load(tiny, backend="onnxruntime", threads=1)


def labels(verdicts):
    return [verdict.scores for verdict in verdicts]


@pytest.mark.parametrize("ring", [1, 2, 3, 5, 8, 13, 20])
def test_reused_buffers_do_not_mix_frames(detector, ring):
    assert [wrong_scores(detector, FRAMES, ring, batch=batch) for batch in (1, 2, 3, 5, 8, 16)] == [0] * 6


@pytest.mark.parametrize(("backend", "module"), [("openvino", "openvino"), ("torch", "torch")])
def test_reused_buffers_do_not_mix_frames_on_any_backend(backend, module, with_weights):
    pytest.importorskip(module)
    detector = Detector.load(with_weights, backend=backend, threads=1)
    ways = [(ring, batch) for ring in (1, 2, 7, 20) for batch in (1, 4, 16)]
    assert [wrong_scores(detector, FRAMES, ring, batch=batch) for ring, batch in ways] == [0] * len(ways)


def test_reused_buffers_do_not_mix_frames_in_bfloat16(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    from guarded import guarded_bundle

    from leakrt.runtime import loaded
    from leakrt.runtime.backends import openvino_bf16

    if not openvino_bf16.probe().runs:
        pytest.skip("no OpenVINO, or a CPU without bfloat16")
    monkeypatch.setattr(loaded, "check_golden", lambda *_: None)  # its rounding error is irrelevant here
    gates = {"int8": {"onnxruntime": {"passed": True}, "openvino_bf16": {"passed": True}}}
    path = guarded_bundle(tmp_path / "b", {}, precisions=("fp32", "int8"), gates=gates)
    detector = Detector.load(path, backend="openvino_bf16", precision="int8", threads=1)
    ways = [(ring, batch) for ring in (1, 2, 7, 20) for batch in (1, 4, 16)]
    assert [wrong_scores(detector, FRAMES, ring, batch=batch) for ring, batch in ways] == [0] * len(ways)


def test_a_batch_of_reused_buffers_does_not_mix_frames(detector):
    expected = labels(detector.check_batch(FRAMES))
    assert all(labels(detector.check_batch(refilled(FRAMES, ring))) == expected for ring in (1, 3))


def test_an_analysis_keeps_its_pixels_when_the_buffer_is_reused(detector):
    buffer = FRAMES[0].copy()
    (analysis,) = detector.analyse(buffer)
    buffer[:] = 0
    assert np.array_equal(analysis.evidence.pixels, FRAMES[0])


def test_an_invalid_frame_yields_an_error_at_its_position(detector):
    bgra = np.dstack([FRAMES[0], FRAMES[0][:, :, 0]])
    wrong = [None, b"\xff\xd8", FRAMES[0] / 255, FRAMES[0][:, :, 0], bgra, FRAMES[0][:20], 7, "/nowhere.png"]
    mixed = [item for bad in wrong for item in (FRAMES[1], bad)]
    for images in (mixed, iter(mixed)):
        verdicts = list(detector.check_stream(images, batch=4))
        assert [verdict.error is None for verdict in verdicts] == [True, False] * len(wrong)
        assert all(v.scores == verdicts[0].scores for v in verdicts[::2])
        assert "can't classify None: expected a path, a PIL image, or a uint8 array" in verdicts[1].error
        assert all((v.verdict, v.scores) == (None, {}) for v in verdicts[1::2])
    assert detector.analyse(None)[0].verdict.error == verdicts[1].error


def test_a_pil_image_gets_the_verdict_of_its_file(detector, image_folder):
    path = image_folder(1) / "0000.jpg"
    with Image.open(path) as image:
        assert detector.check(image).scores == detector.check(path).scores


@pytest.mark.parametrize("image", [None, b"x", FRAMES[0] / 255, FRAMES[0][:, :, 0], [FRAMES[0]], 3.0])
def test_an_object_that_is_not_an_image_raises_a_usage_error(detector, image):
    for call in (detector.check, detector.check_faces):
        with pytest.raises(UsageError, match=r"can't classify .*: expected a path, a PIL image, or a uint8 array"):
            call(image)


@pytest.mark.parametrize("images", ["x.png", b"x", FRAMES[0], None, 5])
def test_a_single_image_is_not_a_stream(detector, images):
    for call in (detector.check_batch, detector.check_stream):
        with pytest.raises(UsageError, match="expects several images, not"):
            call(images)


@pytest.mark.parametrize("read", [0, 1, 5, 8, 20])
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_an_exception_of_the_source_is_raised_after_the_verdicts_on_earlier_images(detector, read, batch):
    def source():
        yield from FRAMES[:read]
        raise OSError("the camera is gone")

    stream, kept = detector.check_stream(source(), batch=batch), []
    with pytest.raises(OSError, match="the camera is gone"):
        kept.extend(stream)
    assert labels(kept) == labels(detector.check_batch(FRAMES[:read]))


def test_an_interrupt_in_a_source_does_not_wait_for_verdicts(detector):
    def source():
        yield from FRAMES[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(detector.check_stream(source(), batch=8))


@pytest.mark.parametrize("batch", [1, 8])
def test_a_verdict_does_not_wait_for_the_next_frame(detector, batch):
    classified = threading.Semaphore(0)

    def live():
        for frame in FRAMES[:6]:
            yield frame
            assert classified.acquire(timeout=20)

    found = []
    for verdict in detector.check_stream(live(), batch=batch):
        found.append(verdict)
        classified.release()
    assert labels(found) == labels(detector.check_batch(FRAMES[:6]))


def test_scores_do_not_depend_on_batching(detector):
    def bursts():
        for number, frame in enumerate(FRAMES):
            if number % 5 == 3:
                time.sleep(0.02)
            yield frame

    expected = labels(detector.check_batch(FRAMES))
    for batch in (1, 4, 16):
        assert labels(detector.check_stream(bursts(), batch=batch)) == expected
        assert labels(detector.check_stream(FRAMES, batch=batch)) == expected


def test_closing_a_stream_closes_its_source(detector):
    closed = []

    def source():
        try:
            for number in count():
                yield FRAMES[number % 24]
        finally:
            closed.append(True)

    stream = detector.check_stream(source(), batch=4)
    next(stream)
    stream.close()
    assert closed == [True]


def test_a_stream_may_feed_another(detector):
    inner = detector.check_stream(iter(FRAMES), batch=2)
    outer = detector.check_stream((frame for frame, _ in zip(FRAMES, inner, strict=True)), batch=3)
    assert labels(outer) == labels(detector.check_batch(FRAMES))


class SlowFrames(Sequence):
    """A sequence that blocks for each frame, like one that reads a camera."""

    def __init__(self):
        self.read = 0

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index >= len(self):
            raise IndexError
        self.read += 1
        if index:
            time.sleep(0.2)
        return FRAMES[0]


def test_a_sequence_other_than_a_list_yields_verdicts_as_they_are_ready(detector):
    frames = SlowFrames()
    stream = detector.check_stream(frames, batch=6)
    next(stream)
    assert frames.read < len(frames)
    stream.close()


@pytest.mark.parametrize("batch", [1.5, "8", 0])
def test_a_batch_size_that_is_not_an_integer_raises_a_usage_error(detector, batch):
    with pytest.raises(UsageError, match="expected an integer of at least 1"):
        detector.check_stream([], batch=batch)
