"""Streams whose source refills its buffers, fails, blocks, or holds what is no image; what owning the pixels costs."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from leakrt import Detector
from leakrt.core.errors import LeakRTError, UsageError
from leakrt.core.verdict import Verdict
from leakrt.runtime.backends import registry

from .row import Inputs, Row

Frame = npt.NDArray[np.uint8]
_TINY = Path(__file__).parents[2] / "tests" / "data" / "tiny"
_CPU = ("onnxruntime", "openvino", "openvino_bf16", "torch")
_COUNT = 48
_RATE = 10.0  # frames a second of the camera


def measure(inputs: Inputs) -> list[Row]:
    """Every situation on the bundle, or where none is given on the tiny one of the tests."""
    bundle = inputs.bundle or _TINY
    rows = [_reused(bundle, name, inputs.quick) for name in _CPU]
    detector = Detector.load(bundle, backend="onnxruntime", threads=1)
    rows += [_no_images(detector), _wrong_usage(detector), _failing(detector), _delay(detector), _blocking(detector)]
    return [*rows, _cost(detector, is_tiny=inputs.bundle is None)]


def _reused(bundle: Path, backend: str, quick: bool) -> Row:
    situation = f"buffers refilled, rings of 1 to 20, batches of 1 to 16, {backend}"
    try:
        detector = _load(bundle, backend)
    except LeakRTError as error:
        return Row(situation=situation, tried=0, figure=f"skipped: {error}")
    frames = _frames(_COUNT, 48, 64)
    alone = [detector.check(frame).scores for frame in frames]
    ways = list(itertools.product((1, 2, 7, 20) if quick else range(1, 21), (1, 5, 16) if quick else range(1, 17)))
    wrong = 0
    for number, (ring, batch) in enumerate(ways):
        begin = number % (_COUNT - 23)  # 24 of the frames each time, since each way costs 24 verdicts
        given, expected = frames[begin : begin + 24], alone[begin : begin + 24]
        found = list(detector.check_stream(_refilled(given, ring), batch=batch))
        wrong += sum(v.scores != e for v, e in zip(found, expected, strict=True))
    return Row(situation=situation, tried=24 * len(ways), silent=wrong, target="0 scores of another frame")


def _no_images(detector: Detector) -> Row:
    """Frames that are no images between others: each gives an error, and each other its own verdict."""
    frame = _frames(1, 48, 64)[0]
    bgra = np.dstack([frame, frame[:, :, :1]])
    masked = np.ma.MaskedArray(frame, frame > 100)
    wrong = [None, b"\xff\xd8", frame / 255, frame[:, :, 0], bgra, frame > 9, frame[:9], masked, object(), "/nowhere"]
    given = [item for bad in wrong for item in (frame, bad)]
    expected, silent = detector.check(frame).scores, 0
    for images, batch in itertools.product((list, iter), (1, 3, 8)):
        found = list(detector.check_stream(images(given), batch=batch))
        silent += abs(len(found) - len(given))
        silent += sum(v.scores != expected for v in found[::2]) + sum(v.error is None for v in found[1::2])
    return Row(situation="None, bytes, float, grey, BGRA and more in a stream", tried=6 * len(wrong), silent=silent,
               target="an error each, and the stream continues")  # fmt: skip


def _wrong_usage(detector: Detector) -> Row:
    """One thing that is no image, handed to `check`."""
    frame = _frames(1, 48, 64)[0]
    wrong: list[object] = [None, b"x", frame / 255, frame[:, :, 0], [frame], 3, frame.astype(np.uint16)]
    try:
        import torch

        wrong.append(torch.zeros(3, 48, 64))
    except ImportError:
        pass
    refused = sum(_raises(detector.check, image) for image in wrong)
    return Row(situation="tensors, float arrays and more to check", tried=len(wrong), figure=f"{refused} UsageErrors",
               silent=len(wrong) - refused, target="UsageError each")  # fmt: skip


def _failing(detector: Detector) -> Row:
    """A source that fails after some frames: their verdicts come first."""
    frames, lost, tried = _frames(24, 48, 64), 0, 0

    def source(read: int) -> Iterator[Frame]:
        yield from frames[:read]
        raise OSError("the camera is gone")

    for read, batch in itertools.product(range(25), (1, 3, 8, 16)):
        found: list[Verdict] = []
        raised = False
        try:
            found.extend(detector.check_stream(source(read), batch=batch))
        except OSError:
            raised = True
        lost += read - len(found) + (not raised)
        tried += 1
    return Row(situation="a source that fails after 0 to 24 frames", tried=tried, silent=lost, target="0 verdicts lost",
               figure=f"{lost} verdicts lost")  # fmt: skip


def _delay(detector: Detector) -> Row:
    """From the moment at which a camera hands over a frame of 640 x 480 to its verdict."""
    frames, handed, delays = _frames(4, 480, 640), [], []
    alone = _median(lambda: detector.check(frames[0]))

    def camera() -> Iterator[Frame]:
        for number in range(20):
            time.sleep(1 / _RATE)
            handed.append(time.perf_counter())
            yield frames[number % 4]

    for number, _ in enumerate(detector.check_stream(camera(), batch=8)):
        delays.append(1e3 * (time.perf_counter() - handed[number]))
    worst, limit = max(delays), 1e3 / _RATE + alone
    return Row(
        situation=f"delay of a verdict at {_RATE:.0f} frames a second",
        tried=len(delays),
        figure=f"first {delays[0]:.0f} ms, median {statistics.median(delays):.0f} ms, worst {worst:.0f} ms "
        f"(a verdict takes {alone:.0f} ms)",
        target="a batch and a frame",
        met=worst <= limit,
    )


def _blocking(detector: Detector) -> Row:
    """A source that gives no frame before the last verdict was taken: it would wait for ever."""
    frames, taken, stuck = _frames(6, 48, 64), [0], 0

    def source() -> Iterator[Frame]:
        nonlocal stuck
        for number, frame in enumerate(frames):
            yield frame
            end = time.perf_counter() + 5
            while taken[0] <= number and time.perf_counter() < end:
                time.sleep(0.001)
            stuck += taken[0] <= number

    for _ in detector.check_stream(source(), batch=8):
        taken[0] += 1
    return Row(situation="a source that blocks until its frame is judged", tried=len(frames), silent=stuck,
               target="no verdict waits for the next frame")  # fmt: skip


def _cost(detector: Detector, *, is_tiny: bool) -> Row:
    """What a copy of a frame costs. Only backends that preprocess on their device need it."""
    (frame,) = _frames(1, 480, 640)
    copies, verdicts = [], []
    for _ in range(15):
        copies.append(_once(frame.copy))
        verdicts.append(_once(lambda: detector.check(frame)))
    copy, verdict = statistics.median(copies), statistics.median(verdicts)
    return Row(
        situation="copy of a frame of 640 x 480 against its verdict",
        tried=len(copies),
        figure=f"{1e3 * copy:.0f} us of {verdict:.1f} ms, {100 * copy / verdict:.2f} %; on a CPU none is made",
        target="" if is_tiny else "under 5 %",  # the network of the tiny bundle takes no time
        met=is_tiny or copy < 0.05 * verdict,
    )


def _load(bundle: Path, backend: str) -> Detector:
    """The first precision that the backend runs. Raises LeakRTError."""
    registry.choose(backend)
    precisions = ("int8", "fp16") if backend == "openvino_bf16" else ("fp32",)
    for precision in precisions:
        try:
            return Detector.load(bundle, backend=backend, precision=precision, threads=1)
        except LeakRTError as error:
            last = error
    raise last


def _refilled(frames: Sequence[Frame], ring: int) -> Iterator[Frame]:
    """Each frame in one of `ring` buffers, which is filled again as soon as its turn comes."""
    buffers = [np.zeros_like(frames[0]) for _ in range(ring)]
    for number, frame in enumerate(frames):
        np.copyto(buffers[number % ring], frame)
        yield buffers[number % ring]
    for buffer in buffers:
        buffer.fill(127)


def _frames(count: int, height: int, width: int) -> list[Frame]:
    return [np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8) for i in range(count)]


def _raises(call: Callable[[object], object], image: object) -> bool:
    try:
        call(image)
    except UsageError:
        return True
    return False


def _once(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    begin = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begin)


def _median(work: Callable[[], object]) -> float:
    return statistics.median(_once(work) for _ in range(9))
