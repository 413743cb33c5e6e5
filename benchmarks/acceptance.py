"""Whether the acceptance test accepts sound fp16 variants, and refuses variants that are broken on purpose.

    python benchmarks/acceptance.py DATA ENCODER.onnx [--seeds 0,1,2] [--work FOLDER] [--json FILE]

Trains a detector for each seed, with one and two threads in turn, adds an fp16 variant as `leakrt export --precision
fp16` does, and breaks it in several ways (`broken_variants.py`). DATA may be `data` of a finished `leakrt quickstart`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import broken_variants as broken

from leakrt.calibration.acceptance.attempts import Examiner
from leakrt.calibration.acceptance.measuring import load_variant, onnxruntime_only, run_images
from leakrt.calibration.fp16.fitting import HalfOutputs, fit_half
from leakrt.calibration.fp16.variant import HalfOptions, HalfResult, add_fp16
from leakrt.calibration.images import images
from leakrt.calibration.validation_images import labelled, labels_of, paths_of
from leakrt.cli.console import ConsoleProgress, table
from leakrt.core.acceptance import FP16_LIMITS
from leakrt.core.bundle import Bundle
from leakrt.core.errors import LeakRTError
from leakrt.core.files import atomic_write, cache_folder
from leakrt.core.progress import Progress
from leakrt.core.spec import ModelSpec
from leakrt.export.exporter import export_run
from leakrt.train.config import TrainConfig
from leakrt.train.session import TrainRequest, train

SCALE = 0.18215
THREADS = (1, 2)
CONTROL = "as it is"  # the sound variant by the way of the broken ones: what is refused there is the damage
FIGURES = ("islands", "verdicts", "crossings", "labels", "AUC drop", "counted")  # of strict float16


def main() -> None:
    """Train, add variants, break them, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--seeds", default=",".join(map(str, range(10))))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--work", type=Path, default=Path("acceptance-runs"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/acceptance.json"))
    args = parser.parse_args()
    load = os.getloadavg()[0]
    found = []
    for index, seed in enumerate(map(int, args.seeds.split(","))):
        threads = THREADS[index % len(THREADS)]
        print(f"seed {seed}, {threads} threads", file=sys.stderr)
        with ConsoleProgress() as progress:
            found.append({"seed": seed, "threads": threads, **_measure(args, seed, threads, progress=progress)})
        args.json.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(args.json, json.dumps({"load_before": load, "trainings": found}, indent=1).encode())
    _print(found)


def _measure(args: argparse.Namespace, seed: int, threads: int, *, progress: Progress) -> dict[str, Any]:
    out = args.work / f"seed{seed}-threads{threads}"
    spec = ModelSpec(
        class_names=("real", "not real"),
        real_class="real",
        image_size=args.image_size,
        embedding_dim=64,
        prototypes_per_class=4,
    )
    request = TrainRequest(
        data=args.data,
        out=out / "run",
        vae=f"onnx:{args.encoder}",
        cache=cache_folder() / "latents",
        config=TrainConfig(epochs=args.epochs, seed=seed, threads=threads, widths=(16, 32, 64)),
        spec=spec,
        vae_scale=SCALE,
    )
    run = train(request, progress=progress)
    bundle = export_run(run, out / "bundle", progress=progress).path
    options = HalfOptions(threads=threads, replace=True, keep_refused=True)  # kept, so that it can be broken
    result = add_fp16(bundle, args.data, options, backends=onnxruntime_only(threads), progress=progress)
    refused = dict(_refusals(Bundle(bundle), args.data, threads, progress=progress))
    return {"macro_auc": run.best().val_macro_auc, **_sound(result), "broken": refused}


def _sound(result: HalfResult) -> dict[str, Any]:
    last = result.attempts[-1]
    figures = {name: comparison.to_json() for name, comparison in last.comparisons.items()}
    islands = len(last.step.islands)
    return {"accepted": not last.failures, "failures": list(last.failures), "islands": islands, "figures": figures}


def _refusals(bundle: Bundle, data: Path, threads: int, *, progress: Progress) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each broken variant and why it is refused; the reasons are empty if it is accepted."""
    listing, spec = labelled(data, bundle), bundle.spec
    paths, labels = paths_of(listing, "val"), labels_of(listing, "val")
    examiner = Examiner(bundle, paths, labels, backends=onnxruntime_only(threads), threads=threads, progress=progress)
    half = bundle.graph("vae_encoder", "fp16"), bundle.graph("leak_encoder", "fp16")
    for name, graphs, noised in (
        (CONTROL, half, spec),
        *((name, damage(half), spec) for name, damage in broken.GRAPHS.items()),
        ("other noise", half, broken.other_noise(spec)),
        ("classes swapped", half, spec),
    ):
        try:
            runner = load_variant(spec, *graphs, threads=threads)
            stream = (image[0] for image in images(paths, spec.image_size))
            latents, outputs = run_images(
                runner, noised, stream, task=f"fp16, {name}", total=len(paths), progress=progress
            )
            if name == "classes swapped":
                outputs = broken.classes_swapped(outputs, spec)
            given = HalfOutputs(exact=examiner.exact, found=(outputs,), latents=latents, labels=labels)
            variant = fit_half(bundle, graphs, given)
            yield name, list(examiner.compare(variant, outputs).failures(FP16_LIMITS))
        except LeakRTError as error:
            yield name, [str(error)]


def _print(found: list[dict[str, Any]]) -> None:
    names = [name for name in found[0]["broken"] if name != CONTROL]
    print(table([("seed", "threads", "AUC", "fp16", *FIGURES, *names), *(_row(one, names) for one in found)]))
    sound = sum(one["accepted"] and not one["broken"][CONTROL] for one in found)
    wrong = sum(not one["broken"][name] for one in found for name in names)
    print(f"accepted: fp16 in {sound} of {len(found)} trainings, {wrong} of {len(found) * len(names)} broken variants")


def _row(one: dict[str, Any], names: list[str]) -> tuple[str, ...]:
    trained = (str(one["seed"]), str(one["threads"]), f"{one['macro_auc']:.4f}", _word(one["accepted"]))
    states = tuple(_word(not one["broken"][name]) for name in names)
    rounded = one["figures"].get("rounded")  # strict float16, as on a GPU
    if rounded is None:
        return (*trained, *[""] * len(FIGURES), *states)
    changes, images = rounded["changes"], rounded["images"]
    labels = round((1 - rounded["agreement"]) * images)
    counts = (one["islands"], changes["verdicts"], changes["crossings"], labels)
    shares = (f"{rounded['macro_auc_drop']:+.5f}", f"{changes['counted'] / images:.1%}")
    return (*trained, *map(str, counts), *shares, *states)


def _word(accepted: bool) -> str:
    return "accepted" if accepted else "refused"


if __name__ == "__main__":
    main()
