"""One backend's chain at one precision: is it right, how long does it take, and what of that is the device's.

From frames in the host's memory to the leak encoder's outputs in it, warm, by the host's clock; device stages by
events. Host overhead is what a call takes beyond its stages. What comes out is compared with ONNX Runtime's float32.
Imports no torch, so that it runs under another Python beside TensorRT.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from part import NO_GPU, Part, clocks, summary

from leakrt.core.bundle import Bundle
from leakrt.core.errors import UsageError
from leakrt.core.outputs import LeakOutputs
from leakrt.engines.device import find_driver
from leakrt.runtime.backends import registry
from leakrt.runtime.detector import Detector
from leakrt.runtime.finite import GuardedVariant
from leakrt.runtime.loaded import LoadedVariant
from leakrt.runtime.machine import host_memory
from leakrt.runtime.threads import resolve_threads

Frame = npt.NDArray[np.uint8]
_BATCHES = (1, 16)
_ROUNDS = {1: 2000, 16: 300}
_SECONDS = 8.0  # at most, for each batch
_WARM = 20


@dataclass(frozen=True)
class Call:
    """What one call gave and took."""

    outputs: LeakOutputs
    wall_ms: float
    stages_ms: Mapping[str, float]


def main() -> None:
    """Load, compare, time."""
    part = Part(__doc__, _options)
    name, precision = part.options.backend, "fp32" if part.rehearse else part.options.precision
    path = part.work / "bundle"
    if not path.exists():
        part.skip("there is no bundle: the part before failed")
    part.skip_for(problem(name, part.rehearse))
    begin = time.perf_counter()
    bundle = Bundle(path)
    variant = LoadedVariant.load(bundle, precision, name, resolve_threads(0))  # the golden image is run
    part.set("load_s", time.perf_counter() - begin)
    chain = chain_of(variant)
    expected = dict(np.load(part.work / "expected.npz"))
    frames = [expected[f"frame_{i}"] for i in range(len(expected["scores"]))][: 2 if part.rehearse else None]
    with part.trying("accuracy"):
        part.set("accuracy", accuracy(part, chain, frames, expected))
    for batch in _BATCHES[:1] if part.rehearse else _BATCHES:
        with part.trying(f"batch {batch}"):
            part.set(f"batch {batch}", timings(part, chain, [frames[0]] * batch))
    with part.trying("verdicts"):
        detector = Detector(bundle, GuardedVariant(variant, lambda: None), None, 1 << 24)
        part.set("verdict_ms", summary(_walls(lambda: detector.check(frames[0]), 1 if part.rehearse else 500)))
    part.set("description", variant.backend.describe().__dict__)
    part.set("host_memory", host_memory().__dict__)
    part.end()


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", required=True)
    parser.add_argument("--precision", default="fp16")


def problem(name: str, rehearse: bool) -> str:
    """Why this backend can't be tried; empty where it can. A rehearsal tries torch's CPU path."""
    if find_driver().library is None and not (rehearse and name == "torch"):
        return NO_GPU
    try:
        found = registry.kind(name).probe()
    except (UsageError, ImportError) as error:
        return str(error)
    return "" if found.runs else f"{found.reason}; {found.install}"


def chain_of(variant: LoadedVariant) -> Callable[[Sequence[Frame]], Call]:
    """A call that takes frames through the variant, as `Detector` does."""
    pipeline, backend = variant.pipeline, variant.backend
    images = [pipeline.image_buffer() for _ in range(max(_BATCHES))]

    def run(frames: Sequence[Frame]) -> Call:
        begin = time.perf_counter()
        for frame, image in zip(frames, images, strict=False):
            pipeline.preprocess(frame, image)
        prepared = 1e3 * (time.perf_counter() - begin)
        result = backend.chain(np.stack(images[: len(frames)]))  # type: ignore[attr-defined]
        wall = 1e3 * (time.perf_counter() - begin)
        return Call(result.outputs, wall, {"preprocess": prepared, **result.latency_ms})

    return run


def accuracy(
    part: Part, chain: Callable[[Sequence[Frame]], Call], frames: Sequence[Frame], expected: Mapping[str, np.ndarray]
) -> dict[str, object]:
    """Errors over the spread of each output, and whether a frame gives equal bits again and in another batch."""
    found = chain(frames).outputs
    errors = {
        name: float(np.abs(getattr(found, name) - expected[name][: len(frames)]).max() / expected[name].std())
        for name in LeakOutputs.__dataclass_fields__
    }
    if not all(error < 0.1 for error in errors.values()):  # also where one is no number
        part.fail(f"outputs differ from ONNX Runtime's float32 by {errors} of their spread")
    again = chain(frames).outputs
    alone = np.concatenate([chain([frame]).outputs.scores for frame in frames])
    same = found.scores.tobytes() == again.scores.tobytes()
    if not same:
        part.fail("the same frames gave other scores the second time")
    return {
        "errors": errors,
        "same bits again": same,
        "scores move with the batch by": np.abs(alone - found.scores).max(),
    }


def timings(part: Part, chain: Callable[[Sequence[Frame]], Call], frames: Sequence[Frame]) -> dict[str, object]:
    """Wall and stages of a batch, and its share of the matrix rate that an earlier part measured."""
    batch = len(frames)
    calls = _calls(lambda: chain(frames), 2 if part.rehearse else _ROUNDS[batch], 0 if part.rehearse else _WARM)
    walls, device = [c.wall_ms for c in calls], [sum(c.stages_ms.values()) for c in calls]
    wall = summary(walls)
    overhead = float(np.median(np.subtract(walls, device)))
    entry = {
        "wall_ms": wall,
        "stages_ms": {name: summary([c.stages_ms[name] for c in calls]) for name in calls[0].stages_ms},
        "p99_over_p50": wall["p99"] / wall["p50"],
        "overhead_ms": overhead,
        "overhead_share": overhead / wall["p50"],
        "clocks": clocks(),
    }
    cost = part.other("make_bundle").get("flops_per_image", {})
    if cost:
        rate = batch * sum(cost.values()) / wall["p50"] / 1e9
        entry["tflops"] = rate
        ceiling = part.other("kernel_times").get("fp16 tflops", 0)
        entry["share_of_matrix_rate"] = rate / ceiling if ceiling else None
    return entry


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
