"""Training recipes on LeakBench beside the shipped one, judged by validation images alone: no test image is read.

    python benchmarks/recipes.py LEAKBENCH ENCODER.onnx [--recipes NAME,...] [--seeds 0] [--work FOLDER] [--json FILE]

Each differs from the shipped recipe in what its name says. Trains what --work does not hold yet (about ten minutes
each on two idle cores) and prints the best epoch of each, by validation macro AUC, as `leakrt train` chooses it.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean

from leakbench import SCALE

from leakrt.cli.console import ConsoleProgress, table
from leakrt.core.files import atomic_write, cache_folder
from leakrt.core.spec import ModelSpec
from leakrt.train.config import TrainConfig
from leakrt.train.metrics_log import EpochMetrics
from leakrt.train.session import TrainRequest, train

_SPEC = ModelSpec(class_names=("real", "not real"), real_class="real")
# Name to what differs: fields of TrainConfig, and of ModelSpec.
RECIPES: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "shipped": ({}, {}),
    "linear head at one step": ({"head": "linear"}, {"timesteps": (0,)}),
    "step dropout 0.3": ({"step_dropout": 0.3}, {}),
    "2 prototypes a class": ({}, {"prototypes_per_class": 2}),
    "steps 0 10 30 80": ({}, {"timesteps": (0, 10, 30, 80)}),
    "steps 0 5 20 60": ({}, {"timesteps": (0, 5, 20, 60)}),
    "embedding dropout 0.5": ({"embedding_dropout": 0.5}, {}),
}


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--work", type=Path, default=Path("leakbench-recipes"))
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/recipes.json"))
    args = parser.parse_args()
    names, seeds = args.recipes.split(","), [int(seed) for seed in args.seeds.split(",")]
    for name in names:
        if name not in RECIPES:
            parser.error(f"no recipe {name!r}; choose from: {', '.join(RECIPES)}")
    found = {name: [_best(args, name, seed) for seed in seeds] for name in names}
    print(table([("recipe", "macro AUC", "balanced accuracy", "loss", "loss in training"), *map(_row, found.items())]))
    args.json.parent.mkdir(parents=True, exist_ok=True)
    figures = {name: [asdict(row) for row in rows] for name, rows in found.items()}
    atomic_write(args.json, json.dumps({"seeds": seeds, "best epochs": figures}, indent=1).encode())


def _best(args: argparse.Namespace, name: str, seed: int) -> EpochMetrics:
    config, spec = RECIPES[name]
    out = args.work / f"{name.replace(' ', '-')}-{seed}"
    print(f"{name}, seed {seed}: {out}", file=sys.stderr)
    recipe, template = replace(TrainConfig(seed=seed, threads=1), **config), replace(_SPEC, **spec)
    request = TrainRequest(
        data=args.data,
        out=out,
        vae=f"onnx:{args.encoder}",
        cache=cache_folder() / "latents",
        config=recipe,
        spec=template,
        vae_scale=SCALE,
    )
    with ConsoleProgress() as progress:
        return train(request, progress=progress).best()


def _row(entry: tuple[str, list[EpochMetrics]]) -> tuple[str, ...]:
    name, rows = entry
    columns = ("val_macro_auc", "val_balanced_accuracy", "val_loss", "train_loss")
    return (name, *(f"{mean(getattr(row, column) for row in rows):.4f}" for column in columns))


if __name__ == "__main__":
    main()
