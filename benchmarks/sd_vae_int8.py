"""Stable Diffusion's VAE encoder at 256 pixels in int8, end to end on each CPU backend, against eager fp32 PyTorch.

    python benchmarks/sd_vae_int8.py [--work FOLDER] [--images 32] [--rounds 7] [--threads N] [--json FILE]

Both networks have random weights: the time does not depend on them, and there is no verdict to keep. So the bundle
is calibrated as `leakrt calibrate` does it (ranges from a stream of images by streaming histograms, percentile, Q/DQ
of both graphs), without what only changes the values of weights (correction, refit) or looks at verdicts.
Detector.check runs at fp32 and int8 on both backends and PyTorch in between, in turn in one process with as many
threads. Then the profilers of both runtimes tell where the time goes.

ONEDNN_MAX_CPU_ISA=AVX512_CORE_VNNI leaves out AMX, as a CPU has it that only has int8 dot products. Needs the train
and openvino extras. The bundle is kept in FOLDER and used again. About 6 minutes for it and 3 for the figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from int8_layers import PRECISIONS, PROFILERS, as_json, print_profile, profile
from sd_networks import Networks, eager, write
from timing import in_turn, machine, ratios, summary

from leakrt.calibration.acceptance.measuring import Backends, installed, load_variant, run_images
from leakrt.calibration.acceptance.variant_files import NewVariant, add_variant
from leakrt.calibration.images import CalibrationImages, choose_images, images
from leakrt.calibration.int8.packed import pack_weights
from leakrt.calibration.int8.qdq import observed_tensors, quantise, rectified_ranges
from leakrt.calibration.int8.ranges import RangeSource, collect_ranges
from leakrt.calibration.layers import find_layers
from leakrt.cli.console import ConsoleProgress, table
from leakrt.core.bundle import Bundle
from leakrt.core.files import atomic_write, sha256_bytes
from leakrt.core.images import MAX_PIXELS
from leakrt.core.noising import Noising
from leakrt.core.progress import Progress
from leakrt.demo.dataset import SyntheticPlan, take_photographs
from leakrt.engines.build.build import bundle_graphs
from leakrt.export.graph_io import parse_graph
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.detector import Detector
from leakrt.runtime.finite import GuardedVariant
from leakrt.runtime.loaded import LoadedVariant
from leakrt.runtime.threads import resolve_threads

TARGET = 0.25
METHOD = "percentile"
TORCH = "torch fp32, eager"

Array = np.ndarray[Any, np.dtype[np.float32]]


def main() -> None:
    """Build, calibrate, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    threads, networks = resolve_threads(args.threads), Networks.random()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as temporary, ConsoleProgress() as progress:
        path = (args.work or Path(temporary)) / "bundle"
        if not path.exists() or "int8" not in Bundle(path).precisions:
            path.parent.mkdir(parents=True, exist_ok=True)
            calibrate(path, networks, args.images, threads, progress)
        bundle = Bundle(path)
        told, frame = machine(), bundle.golden().image
        detectors = {f"{b} {p}": load(bundle, p, b, threads) for b in PROFILERS for p in PRECISIONS}
        works: dict[str, Callable[[], Any]] = {TORCH: eager(networks)}
        works |= {name: lambda detector=detector: detector.check(frame) for name, detector in detectors.items()}
        taken = in_turn(works, args.rounds)
        print_race(taken)
        vae = bundle_graphs(bundle)[0]
        layers = profile(bundle, vae, threads)
        print_profile(bundle, vae, layers)
    print(f"{threads} threads, {told}")
    if args.json:
        body = {"machine": told, "threads": threads, "milliseconds": summary(taken), "vae_encoder": as_json(layers)}
        atomic_write(args.json, json.dumps(body, indent=1).encode())


def calibrate(path: Path, networks: Networks, count: int, threads: int, progress: Progress) -> None:
    """Write the fp32 bundle and add the int8 variant to it."""
    folder = path.parent / "photographs"
    folder.mkdir(exist_ok=True)
    photographs = take_photographs(SyntheticPlan(size=256, train=count, val=0, test=0), progress=progress)[0]
    for index, pixels in enumerate(photographs):
        cv2.imwrite(str(folder / f"{index:04d}.png"), pixels[..., ::-1])
    spec, bundle = networks.spec, Bundle(write(path, networks, np.ascontiguousarray(photographs[0][..., ::-1])))
    chosen = choose_images(sorted(folder.iterdir()), count, spec, progress=progress)
    vae, leak = (bundle.graph(stem, "fp32") for stem in ("vae_encoder", "leak_encoder"))
    cache = path.parent / "ranges"

    def shown(first: int) -> Iterator[Array]:
        return images(chosen.paths[first:], spec.image_size)

    vae_int8 = quantised(vae, "vae_encoder", shown, chosen, cache, threads, progress)
    runner, noising = load_variant(spec, vae_int8, leak, threads=threads), Noising(spec)

    def noised(first: int) -> Iterator[Array]:
        return (noising(runner.vae_encoder(image)) for image in shown(first))

    leak_int8 = quantised(leak, "leak_encoder", noised, chosen, cache, threads, progress)
    image = next(shown(0))[0]
    report = {"gate": _differences(installed(threads), networks, (vae_int8, leak_int8), image)}
    variant = NewVariant(
        precision="int8",
        vae_encoder=vae_int8,
        leak_encoder=leak_int8,
        support=bundle.support("fp32"),
        decision=bundle.decisions["fp32"],
        report=report,
    )
    add_variant(bundle, variant, load_variant(spec, vae_int8, leak_int8, threads=threads))


def quantised(
    model: bytes,
    stem: str,
    inputs: Callable[[int], Iterator[Array]],
    chosen: CalibrationImages,
    cache: Path,
    threads: int,
    progress: Progress,
) -> bytes:
    """All convolutions of a graph in int8, by ranges of its `inputs`."""
    parsed = parse_graph(model, stem)
    layers = find_layers(parsed, stem)
    fingerprint = f"{chosen.fingerprint} {sha256_bytes(model)}"
    source = RangeSource(
        model=model,
        name=stem,
        tensors=observed_tensors(parsed, layers),
        inputs=inputs,
        count=len(chosen.paths),
        images=fingerprint,
    )
    ranges = rectified_ranges(parsed, collect_ranges(source, METHOD, cache, threads=threads, progress=progress))
    return pack_weights(quantise(model, stem, [layer.name for layer in layers], ranges=ranges), stem)


def _differences(backends: Backends, networks: Networks, graphs: tuple[bytes, bytes], image: Array) -> dict[str, Any]:
    """Random weights pass no acceptance test; by how much backends differ is needed to load."""
    scores = {
        name: run_images(loader(Variant(networks.spec, "int8", *graphs)), networks.spec, [image])[1].scores
        for name, loader in backends.loaders.items()
    }
    reference = next(iter(scores.values()))
    return {n: {"passed": False, "score_difference": 2 * float(np.abs(s - reference).max())} for n, s in scores.items()}


def load(bundle: Bundle, precision: str, backend: str, threads: int) -> Detector:
    """A Detector on a variant that was never tested: Detector.load refuses it."""
    loaded = LoadedVariant.load(bundle, precision, backend, threads=threads)
    return Detector(bundle, GuardedVariant(loaded, lambda: None), None, max_pixels=MAX_PIXELS)


def print_race(taken: dict[str, list[float]]) -> None:
    """Each beside eager PyTorch, and the target beside the best at int8."""
    found = {name: ratios(ms, taken[TORCH]) for name, ms in taken.items()}
    best = min((name for name in found if name.endswith("int8")), key=lambda name: found[name])
    rows = [("end to end", "median", "over eager PyTorch", "of the shortest", "target")]
    for name, ms in taken.items():
        target = f"at most {TARGET}" if name == best else ""
        rows.append((name, f"{median(ms):.0f} ms", *(f"{ratio:.3f}" for ratio in found[name]), target))
    print(table(rows), end="\n\n")


if __name__ == "__main__":
    main()
