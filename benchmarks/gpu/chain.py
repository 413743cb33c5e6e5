"""One backend's chain: is it right, how long does it take, and what of that is the device's.

From frames in the host's memory to the leak encoder's outputs in it, warm, by the host's clock; device stages by
events. Host overhead is what a call takes beyond its stages; a profile tells where. What comes out is compared with
ONNX Runtime's float32, or for a bundle that was carried here with its own golden image. Engines are built first where
the backend runs engines: for batch 1 alone, then for 16 too, so that little time still leaves the first figures.
Imports no torch, so that it runs under another Python beside TensorRT.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from host_profile import profiled
from loading import FLAVOURS, Loading, detector_of
from part import NO_GPU, Part, clocks, one_line, summary

from leakrt.core.bundle import Bundle
from leakrt.core.errors import UsageError
from leakrt.core.outputs import LeakOutputs
from leakrt.core.verdict import Verdict
from leakrt.engines.library.device import find_device, find_driver
from leakrt.engines.library.installed import load_flavour
from leakrt.runtime.backends import registry
from leakrt.runtime.loaded import LoadedVariant
from leakrt.runtime.machine import host_memory

Frame = npt.NDArray[np.uint8]
Chain = Callable[[Sequence[Frame]], "Call"]
_ROUNDS = {1: 2000, 16: 300}
_SECONDS = 8.0  # at most, for each batch
_WARM = 20


@dataclass(frozen=True)
class Call:
    """What one call gave and took."""

    outputs: LeakOutputs
    wall_ms: float
    stages_ms: Mapping[str, float]


@dataclass(frozen=True)
class Subject(Loading):
    """What is measured, and with what it is compared."""

    expected: Mapping[str, np.ndarray]  # frame_0 ..., and outputs of float32; empty: the golden image alone

    @property
    def frames(self) -> list[Frame]:
        """To be compared; the first is what is timed."""
        if not self.expected:
            return [self.bundle.golden().image]
        count = 2 if self.part.rehearse else len(self.expected["scores"])
        return [self.expected[f"frame_{i}"] for i in range(count)]

    @property
    def largest(self) -> Frame:
        """As a camera gives them."""
        return max(self.frames, key=lambda frame: frame.size)


def main() -> None:
    """Each precision in turn."""
    part = Part(__doc__, _options)
    path: Path = part.options.bundle or part.work / "bundle"
    if not path.exists():
        part.skip(f"there is no bundle {path.name}: the part before failed, or none was carried here")
    part.skip_for(problem(part.options.backend, part.rehearse))
    bundle = Bundle(path)
    known = part.work / "expected.npz"
    expected = dict(np.load(known)) if part.options.bundle is None and known.exists() else {}
    wanted = ["fp32"] if part.rehearse else part.options.precision.split(",")
    for precision in [p for p in wanted if p in bundle.precisions]:
        with part.trying(precision):
            measure(Subject(part, bundle, part.options.backend, precision, expected))
    part.set("host_memory", host_memory().__dict__)
    part.end()


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", required=True)
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--one", action="store_true", help="batch 1 alone")
    parser.add_argument("--bundle", type=Path, help="another bundle than the one made here")


def problem(name: str, rehearse: bool) -> str:
    """Why this backend can't be tried; empty where it can. A rehearsal tries torch on the CPU, and engines' chain on
    host memory."""
    if rehearse:
        return "" if name in ("torch", "tensorrt") else NO_GPU
    if find_driver().library is None:
        return NO_GPU
    try:
        found = registry.kind(name).probe()
    except (UsageError, ImportError) as error:
        return str(error)
    if not found.runs:
        return f"{found.reason}; {found.install}"
    return load_flavour(FLAVOURS[name]).gpu_problem(find_device(0).capability) if name in FLAVOURS else ""


def measure(subject: Subject) -> None:
    """Batch 1 with all that goes with it, then batch 16."""
    engines, part = subject.backend in FLAVOURS, subject.part
    loaded = subject.load((1,))
    with part.trying(f"{subject.precision} accuracy"):
        subject.note("accuracy", accuracy(subject, chain_of(loaded, subject.bundle.spec.draws)))
    with part.trying(f"{subject.precision} batch 1"):
        chain = chain_of(loaded, subject.bundle.spec.draws)
        subject.note("batch 1", timings(subject, chain, subject.frames[:1]))
        if subject.largest.shape != subject.frames[0].shape:
            subject.note("batch 1, largest frame", timings(subject, chain, [subject.largest]))
    with part.trying(f"{subject.precision} host profile"):
        chain = chain_of(loaded, subject.bundle.spec.draws)
        rounds = 2 if part.rehearse else 300
        subject.note("host profile", profiled(lambda: chain(subject.frames[:1]), rounds))
    with part.trying(f"{subject.precision} verdicts"):
        detector = detector_of(subject.bundle, loaded)
        verdicts: list[Verdict] = []
        walls = _walls(lambda: verdicts.append(detector.check(subject.frames[0])), 1 if part.rehearse else 500)
        subject.note("verdict_ms", summary(walls))
        stages = {name: summary([v.latency_ms[name] for v in verdicts])["p50"] for name in verdicts[0].latency_ms}
        subject.note("verdict_stages_ms", stages)
    subject.note("description", loaded.backend.describe().__dict__)
    if part.rehearse or part.options.one:
        close(loaded)
        return
    if engines:
        close(loaded)
        loaded = subject.load((1, 16))
    with part.trying(f"{subject.precision} batch 16"):
        chain = chain_of(loaded, subject.bundle.spec.draws)
        subject.note("batch 16", timings(subject, chain, subject.frames[:1] * 16))
        subject.note("description, batch 16", loaded.backend.describe().__dict__)
    close(loaded)


def chain_of(loaded: LoadedVariant, draws: int) -> Chain:
    """A call that takes frames through the variant as a Detector does, in parts where its batch is smaller."""
    pipeline, backend = loaded.pipeline, loaded.backend
    images = [pipeline.image_buffer() for _ in range(backend.batch)]

    def prepared(frames: Sequence[Frame]) -> Call:
        begin = time.perf_counter()
        for frame, image in zip(frames, images, strict=False):
            pipeline.preprocess(frame, image)
        spent = 1e3 * (time.perf_counter() - begin)
        result = backend.chain(np.stack(images[: len(frames)]))
        return Call(result.outputs.average_draws(draws), 0.0, {"preprocess": spent, **result.latency_ms})

    def submitted(frames: Sequence[Frame]) -> Call:
        result = backend.submit(frames)()
        return Call(result.outputs.average_draws(draws), 0.0, result.latency_ms)

    one = submitted if hasattr(backend, "submit") else prepared

    def run(frames: Sequence[Frame]) -> Call:
        begin, step = time.perf_counter(), backend.batch
        calls = [one(frames[i : i + step]) for i in range(0, len(frames), step)]
        wall = 1e3 * (time.perf_counter() - begin)
        stages = {name: sum(c.stages_ms[name] for c in calls) for name in calls[0].stages_ms}
        return Call(LeakOutputs.concatenate([c.outputs for c in calls]), wall, stages)

    return run


def accuracy(subject: Subject, chain: Chain) -> dict[str, object]:
    """Errors over the spread of each output, and whether a frame gives equal bits again and in another batch."""
    frames, expected, part = subject.frames, subject.expected, subject.part
    found, again = chain(frames).outputs, chain(frames).outputs
    errors = {
        name: float(np.abs(getattr(found, name) - expected[name][: len(frames)]).max() / expected[name].std())
        for name in LeakOutputs.__dataclass_fields__
        if expected
    }
    if not all(error < 0.1 for error in errors.values()):  # also where one is no number
        part.fail(f"{subject.precision}: outputs differ from ONNX Runtime's float32 by {errors} of their spread")
    same = found.scores.tobytes() == again.scores.tobytes()
    if not same:
        part.fail(f"{subject.precision}: the same frames gave other scores the second time")
    alone = np.concatenate([chain([frame]).outputs.scores for frame in frames])
    moved = np.abs(alone - found.scores).max() / np.abs(found.scores).max()
    return {"errors": errors, "same bits again": same, "moved by the batch": moved}


def timings(subject: Subject, chain: Chain, frames: Sequence[Frame]) -> dict[str, object]:
    """Wall and stages of a batch, and its share of the matrix rate that an earlier part measured."""
    part, batch = subject.part, len(frames)
    calls = _calls(lambda: chain(frames), 2 if part.rehearse else _ROUNDS[batch], 0 if part.rehearse else _WARM)
    walls, device = [c.wall_ms for c in calls], [sum(c.stages_ms.values()) for c in calls]
    wall, overhead = summary(walls), float(np.median(np.subtract(walls, device)))
    entry: dict[str, object] = {
        "frame": list(frames[0].shape),
        "wall_ms": wall,
        "stages_ms": {name: summary([c.stages_ms[name] for c in calls]) for name in calls[0].stages_ms},
        "p99_over_p50": wall["p99"] / wall["p50"],
        "overhead_ms": overhead,
        "overhead_share": overhead / wall["p50"],
        "clocks": clocks(),
    }
    cost = part.other("make_bundle").get("flops_per_image", {})
    if cost and subject.expected:
        entry["tflops"] = rate = batch * sum(cost.values()) / wall["p50"] / 1e9
        ceiling = part.other("kernel_times").get("fp16 tflops", 0)
        entry["share_of_matrix_rate"] = rate / ceiling if ceiling else None
    return entry


def close(loaded: LoadedVariant) -> None:
    """Give the device's memory back, where the backend holds it until it is told."""
    try:
        getattr(loaded.backend, "close", lambda: None)()
    except Exception as error:
        print(f"closing failed: {one_line(error)}", flush=True)


def _calls(call: Callable[[], Call], rounds: int, warm: int) -> list[Call]:
    for _ in range(warm):
        call()
    found: list[Call] = []
    end = time.perf_counter() + _SECONDS
    while len(found) < rounds and (time.perf_counter() < end or len(found) < 2):
        found.append(call())
    return found


def _walls(call: Callable[[], object], rounds: int) -> list[float]:
    found = []
    for _ in range(rounds):
        begin = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - begin))
    return found


if __name__ == "__main__":
    main()
