"""What the host adds to a frame on a GPU, without one: the runtime as it is, on a device that needs no time.

    python benchmarks/host_side.py BUNDLE [--image FILE] [--rounds 3000] [--json FILE]

Threads, slots, staging, results and verdicts are the `tensorrt` backend's own; launches, copies and engines return at
once, and the outputs that they leave are those of the golden image. So the time of a call is the host's alone, but for
the driver's share of it. The floor is a copy of the frame into memory that is there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from timing import machine, milliseconds

from leakrt.cli.console import table
from leakrt.core.bundle import Bundle
from leakrt.core.graphs import GraphSpec, leak_encoder_graph, vae_encoder_graph
from leakrt.core.images import MAX_PIXELS, read_image
from leakrt.core.spec import ModelSpec
from leakrt.runtime.detector import Detector
from leakrt.runtime.finite import GuardedVariant
from leakrt.runtime.gpu.backend import GpuBackend
from leakrt.runtime.gpu.buffers import block_size, result_parts
from leakrt.runtime.gpu.device import Event, FrameAt, Stream
from leakrt.runtime.gpu.host_device import HostBlock
from leakrt.runtime.gpu.runner import GpuRunner, RunnerOptions
from leakrt.runtime.gpu.slot import Engines
from leakrt.runtime.loaded import LoadedVariant

_BLOCK = 50  # calls of one kind in a row, before the next kind's turn
_HALF = ("image", "latent", "noised")  # float16 at an engine's boundary, as `leakrt build` makes it
_PERCENTILES = (50, 90, 99)
Block = npt.NDArray[np.uint8]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--image", type=Path, help="the frame; else the golden image")
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    args = parser.parse_args()
    bundle = Bundle(args.bundle)
    frame = bundle.golden().image if args.image is None else read_image(args.image).pixels
    found = {"frame": list(frame.shape), **machine(), "us": measure(bundle, frame, args.rounds)}
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    rows = [("microseconds", *(f"p{p}" for p in _PERCENTILES))]
    rows += [(name, *(f"{us:.0f}" for us in taken.values())) for name, taken in found["us"].items()]
    print(table(rows))


def measure(bundle: Bundle, frame: npt.NDArray[np.uint8], rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of each kind of call by percentile. The kinds take turns, in blocks."""
    spec, there = bundle.spec, np.empty_like(frame)
    runner = GpuRunner(spec, lambda: IdleDevice(results(bundle)), lambda _: engines(spec), RunnerOptions())
    backend = GpuBackend("tensorrt", "none", "fp32", 1, runner, spec.draws)
    with runner:
        detector = Detector(bundle, GuardedVariant(LoadedVariant(bundle, backend, 1), lambda: None), None, MAX_PIXELS)
        works: dict[str, Callable[[], object]] = {
            "copy of the frame, the floor": lambda: np.copyto(there, frame),
            "chain, from submit to its outputs": lambda: backend.submit([frame])(),
            "verdict, from frame to Verdict": lambda: detector.check(frame),
        }
        taken = _in_blocks(works, rounds)
    return {name: _percentiles(ms) for name, ms in taken.items()}


def _in_blocks(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-(-rounds // _BLOCK) + 1):
        for name, work in works.items():
            block = [milliseconds(work) for _ in range(_BLOCK)]
            taken[name] += block if turn else []  # the first warms up
    return taken


def _percentiles(ms: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": round(1e3 * float(np.percentile(ms, p)), 1) for p in _PERCENTILES}


def results(bundle: Bundle) -> Block:
    """The block of results that a chain leaves for the golden image, computed on this CPU."""
    spec = bundle.spec
    loaded = LoadedVariant.load(bundle, "fp32", "onnxruntime", 1)
    image = loaded.pipeline.prepare(bundle.golden().image)
    latent = loaded.backend.vae_encoder(np.asarray(image, np.float32)[None])
    outputs = loaded.pipeline.run([image]).outputs
    values: dict[str, Any] = {"latent": latent, **vars(outputs)}
    parts = result_parts(spec, 1, engines(spec).types)
    block = np.zeros(block_size(parts), np.uint8)
    for name, part in parts.items():
        part.of(block)[...] = values[name]  # each draw gives their average
    return block


def engines(spec: ModelSpec) -> Engines:
    """Two that do nothing."""
    return Engines(IdleEngine(vae_encoder_graph(spec)), IdleEngine(leak_encoder_graph(spec)))


class IdleDevice:
    """A `Device` on host memory that does nothing but leave `results` where outputs are copied to."""

    name, mapped = "none", False

    def __init__(self, results: Block) -> None:
        self._results, self.kernels = results, IdleKernels()

    def stream(self) -> IdleStream:
        return IdleStream()

    def event(self) -> IdleEvent:
        return IdleEvent()

    def allocate(self, size: int, what: str) -> HostBlock:
        return HostBlock(size, lambda _: None, 0)

    allocate_host = allocate

    def copy_in(self, to: int, source: npt.NDArray[Any], stream: Stream) -> None: ...

    def copy_out(self, to: npt.NDArray[Any], source: int, stream: Stream) -> None:
        to[:] = self._results[: len(to)]

    def capture(self, stream: Stream, work: Callable[[], None]) -> IdleGraph:
        return IdleGraph()

    def held(self) -> int:
        return 0

    def close(self) -> None: ...


class IdleStream:
    handle = 1

    def synchronize(self) -> None: ...

    def free(self) -> None: ...


class IdleEvent:
    def record(self, stream: Stream) -> None: ...

    def synchronize(self) -> None: ...

    def milliseconds_since(self, other: Event) -> float:
        return 0.0

    def free(self) -> None: ...


class IdleGraph:
    nodes = 1

    def launch(self, stream: Stream) -> None: ...

    def free(self) -> None: ...


class IdleKernels:
    def fill_normals(self, *arguments: int) -> None: ...

    def noise_steps(self, *arguments: Any) -> None: ...

    def preprocess(self, frames: Sequence[FrameAt], size: int, out: int, out_type: str, stream: int) -> None: ...


class IdleEngine:
    """An `Engine` with the types at its boundary that a built one has."""

    batches = (1,)

    def __init__(self, graph: GraphSpec) -> None:
        self.types = {t.name: "float16" if t.name in _HALF else "float32" for t in (graph.input, *graph.outputs)}

    def workspace(self, batch: int) -> int:
        return 1

    def bind(self, batch: int, addresses: Mapping[str, int], workspace: int, stream: Stream) -> IdleBinding:
        return IdleBinding()

    def free(self) -> None: ...


class IdleBinding:
    def enqueue(self, stream: Stream) -> None: ...

    def free(self) -> None: ...


if __name__ == "__main__":
    main()
