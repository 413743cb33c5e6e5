"""The two branches on LeakBench: each alone, fused, on perturbed copies, on files beside their crops.

    python benchmarks/branches.py LEAKBENCH ENCODER.onnx [--more FOLDER] [--originals FOLDER --faces MODEL]
        [--work FOLDER] [--seeds 0,1,2] [--pixel-epochs N] [--test] [--json FILE]

Trains what --work does not hold yet with the defaults of `leakrt train` (an hour a seed with --more, on two idle cores
without AVX-512), and prints figures on validation images. --test measures on test images instead, once per recipe.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

from leakrt.cli.console import ConsoleProgress, table
from leakrt.cli.evaluate_grid import grids_text, measure_grids
from leakrt.cli.evaluate_pairs import measure_pairs, pairs_text
from leakrt.core.files import atomic_write, cache_folder
from leakrt.core.spec import ModelSpec
from leakrt.export.exporter import export_run
from leakrt.runtime.detector import Detector
from leakrt.train.branches import BRANCH_FOLDERS
from leakrt.train.checkpoint import Checkpoint
from leakrt.train.config import PixelConfig, TrainConfig
from leakrt.train.evaluation import evaluate
from leakrt.train.labelled import labelled_images, open_images
from leakrt.train.run import Run
from leakrt.train.session import TrainRequest, train
from leakrt.train.trainer import BEST

SCALE, CHANNELS, DIM = 0.18215, 12, 256
FIGURES = (
    "macro_auc", "balanced_accuracy", "ece", "false_alarm_rate", "coverage", "generated_called_generated",
    "generated_called_real", "open_auroc_real", "open_auroc", "oscr", "open_called_real",
)  # fmt: skip


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--more", type=Path, help="a folder with more training images")
    parser.add_argument("--originals", type=Path, help="the files that validation images were cut from")
    parser.add_argument("--faces", type=Path, help="a YuNet ONNX file, for --originals")
    parser.add_argument("--work", type=Path, default=Path("branch-runs"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--pixel-epochs", type=int, default=PixelConfig.epochs)
    parser.add_argument("--test", action="store_true", help="measure on test images")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/branches.json"))
    args = parser.parse_args()
    found = {f"seed{seed}": _measure(_train(args, int(seed)), args) for seed in args.seeds.split(",")}
    rows = [("figure", "mean", *found)]
    for name in FIGURES:
        values = [run["figures"][name] for run in found.values()]
        rows.append((name, f"{mean(values):.4f}", *(f"{value:.4f}" for value in values)))
    print(table(rows))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(args.json, json.dumps(found, indent=1).encode())


def _train(args: argparse.Namespace, seed: int) -> Run:
    out = args.work / f"seed{seed}"
    request = TrainRequest(
        data=args.data,
        more=() if args.more is None else (args.more,),
        out=out,
        vae=f"onnx:{args.encoder}",
        cache=cache_folder() / "latents",
        config=TrainConfig(seed=seed, pixel=PixelConfig(epochs=args.pixel_epochs)),
        spec=ModelSpec(
            class_names=("real", "not real"), real_class="real", branch_channels=CHANNELS, embedding_dim=DIM
        ),
        vae_scale=SCALE,
    )
    print(f"{out}: two branches, {CHANNELS} channels", file=sys.stderr)
    with ConsoleProgress() as progress:
        return train(request, progress=progress)


def _measure(run: Run, args: argparse.Namespace) -> dict[str, Any]:
    """Print and return the figures of one run, by the verdicts of its bundle."""
    bundle = run.path / "bundle"
    if not bundle.exists():
        with ConsoleProgress() as progress:
            export_run(run, bundle, progress=progress)
    detector = Detector.load(bundle)
    split = "test" if args.test else "val"
    closed, unseen = labelled_images(args.data, split), open_images(args.data / "open").paths
    verdicts = list(detector.check_stream([*closed.paths, *unseen]))
    known, others = verdicts[: len(closed.paths)], verdicts[len(closed.paths) :]
    decision = detector.bundle.decisions["fp32"]
    result = evaluate(known, closed.labels, others, spec=run.spec, decision=decision)
    states = {name: Checkpoint.read(run.path / name / BEST).state for name in BRANCH_FOLDERS}
    alone = {n: {k: s[f"val_{k}"] for k in ("macro_auc", "balanced_accuracy")} for n, s in states.items()}
    print(f"{run.path}: on validation images, " + "; ".join(f"{n} alone {v}" for n, v in alone.items()))
    names = ("robustness", "cameras")
    grids = measure_grids(names, detector.check_stream, closed.paths, labels=closed.labels, spec=run.spec)
    print(grids_text(grids, decision))
    found: dict[str, Any] = {"split": split, "alone": alone, "figures": result.to_json()}
    found |= {name: [cell.to_json() for cell in cells] for name, cells in grids.items()}
    if args.originals is not None and not args.test:
        finder = Detector.load(bundle, faces=args.faces)
        pairs = measure_pairs(args.originals, finder, crops=known, paths=closed.paths, labels=closed.labels)
        print(pairs_text(pairs))
        found["pairs"] = pairs.to_json()
    return found


if __name__ == "__main__":
    main()
