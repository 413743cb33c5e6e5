"""What the host adds to a frame on a GPU, without one: the runtime as it is, on a device that needs no time.

    python benchmarks/host_side.py BUNDLE [--image FILE] [--rounds 3000] [--soak 100000] [--json FILE]

Threads, slots, staging, results and verdicts are the `tensorrt` backend's own; launches, copies and engines return at
once, and the outputs that they leave are those of the golden image. So the time of a call is the host's alone, but for
the driver's share of it. Beside a device that is at work meanwhile, what that took is left out: then processors go to
sleep and have to be woken. The floor is a copy of the frame into memory that is there. `--soak`: how far the process
grows over so many verdicts on frames of changing sizes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from idle_device import Block, IdleDevice, idle_engines
from timing import machine, milliseconds

from leakrt.cli.console import ConsoleProgress, table
from leakrt.core.bundle import Bundle
from leakrt.core.images import MAX_PIXELS, read_image
from leakrt.core.progress import Progress
from leakrt.runtime.backends.staging import frames_size
from leakrt.runtime.backends.tensorrt.backend import GpuBackend
from leakrt.runtime.backends.tensorrt.buffers import block_size, result_parts
from leakrt.runtime.backends.tensorrt.runner import GpuRunner, RunnerOptions
from leakrt.runtime.detector import Detector
from leakrt.runtime.finite import GuardedVariant
from leakrt.runtime.loaded import LoadedVariant
from leakrt.runtime.machine import host_memory

_BUSY = 2.0  # milliseconds: about what a chain with Stable Diffusion's VAE takes on a large GPU
_BLOCK = 50  # calls of one kind in a row, before the next kind's turn
_PERCENTILES = (50, 90, 99)
_SIZES = ((256, 256), (480, 640), (720, 1280), (300, 260), (1080, 1920), (97, 131), (64, 900))  # of frames to soak with
_READINGS = 50
Frame = npt.NDArray[np.uint8]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--image", type=Path, help="the frame; else the golden image")
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--soak", type=int, default=0, metavar="FRAMES")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    args = parser.parse_args()
    bundle = Bundle(args.bundle)
    frame = bundle.golden().image if args.image is None else read_image(args.image).pixels
    laid = frames_size([frame], bundle.spec.image_size) / frame.nbytes
    found: dict[str, Any] = {"frame": list(frame.shape), "laid": round(laid, 3), **machine()}
    found["us"] = measure(bundle, frame, args.rounds)
    rows = [("microseconds", *(f"p{p}" for p in _PERCENTILES))]
    rows += [(name, *(f"{us:.0f}" for us in taken.values())) for name, taken in found["us"].items()]
    print(table(rows))
    print(f"of the frame of {frame.shape[1]} x {frame.shape[0]} pixels {laid:.0%} is laid and copied")
    if args.soak:
        with ConsoleProgress() as progress:
            found["soak"] = {"frames": args.soak, "grew_by_bytes": soak(bundle, args.soak, progress)}
        print(f"{args.soak} verdicts on frames of {len(_SIZES)} sizes: "
              f"the process grew by {found['soak']['grew_by_bytes'] / 2**20:+.2f} MiB")  # fmt: skip
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")


@contextmanager
def idle_backend(bundle: Bundle, busy_ms: float = 0.0) -> Iterator[tuple[GpuBackend, IdleDevice]]:
    """The backend on a device that needs no time, or about so many milliseconds."""
    spec, device = bundle.spec, IdleDevice(results(bundle), busy_ms)
    runner = GpuRunner(spec, lambda: device, lambda _: idle_engines(spec), options=RunnerOptions())
    with runner:
        yield GpuBackend("tensorrt", "none", "fp32", threads=1, runner=runner, draws=spec.draws), device


def detector_on(bundle: Bundle, backend: GpuBackend) -> Detector:
    """A detector of it alone."""
    return Detector(
        bundle, GuardedVariant(LoadedVariant(bundle, backend, 1), lambda: None), None, max_pixels=MAX_PIXELS
    )


def measure(bundle: Bundle, frame: Frame, rounds: int) -> dict[str, dict[str, float]]:
    """Microseconds of each kind of call by percentile, less what the device took. The kinds take turns, in blocks."""
    there = np.empty_like(frame)
    with idle_backend(bundle) as (idle, device), idle_backend(bundle, _BUSY) as (busy, working):
        detector, worked = detector_on(bundle, idle), detector_on(bundle, busy)
        works: dict[str, tuple[Callable[[], object], IdleDevice]] = {
            "copy of the frame, the floor": (lambda: np.copyto(there, frame), device),
            "chain, from submit to its outputs": (lambda: idle.submit([frame])(), device),
            "verdict, from frame to Verdict": (lambda: detector.check(frame), device),
            f"chain beside {_BUSY:.0f} ms of the device": (lambda: busy.submit([frame])(), working),
            f"verdict beside {_BUSY:.0f} ms of the device": (lambda: worked.check(frame), working),
        }
        taken = _in_blocks(works, rounds)
    return {name: _percentiles(ms) for name, ms in taken.items()}


def soak(bundle: Bundle, frames: int, progress: Progress) -> int:
    """Bytes that the process grew by from the first fifth of its verdicts to the last, by the largest of each."""
    given = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i, size in enumerate(_SIZES)]
    held, every = [], max(1, frames // _READINGS)
    with idle_backend(bundle) as (backend, _):
        detector = detector_on(bundle, backend)
        for number in range(frames):
            detector.check(given[number % len(given)])
            if number % every == 0:
                held.append(host_memory().resident or 0)
                progress("verdicts", number, frames)
    fifth = max(1, len(held) // 5)
    return max(held[-fifth:]) - max(held[fifth : 2 * fifth] or held)


def _in_blocks(works: Mapping[str, tuple[Callable[[], object], IdleDevice]], rounds: int) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(-(-rounds // _BLOCK) + 1):
        for name, (work, device) in works.items():
            device.waited_ms = 0.0
            block = [milliseconds(work) - device.waited_ms for _ in range(_BLOCK)]
            taken[name] += block if turn else []  # the first warms up
    return taken


def _percentiles(ms: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": round(1e3 * float(np.percentile(ms, p)), 1) for p in _PERCENTILES}


def results(bundle: Bundle) -> Block:
    """The block of results that a chain leaves for the golden image, computed on this CPU."""
    spec = bundle.spec
    loaded = LoadedVariant.load(bundle, "fp32", "onnxruntime", threads=1)
    image = loaded.pipeline.prepare(bundle.golden().image)
    latent = loaded.backend.vae_encoder(np.asarray(image, np.float32)[None])
    outputs = loaded.pipeline.run([image]).outputs
    values: dict[str, Any] = {"latent": latent, **vars(outputs)}
    parts = result_parts(spec, 1, idle_engines(spec).types)
    block = np.zeros(block_size(parts), np.uint8)
    for name, part in parts.items():
        part.of(block)[...] = values[name]  # each draw gives their average
    return block


if __name__ == "__main__":
    main()
