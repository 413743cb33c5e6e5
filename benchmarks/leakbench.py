"""Attribution on LeakBench: three seeds with prototypes, gates and four steps, beside as many of a one-step ablation.

    python benchmarks/leakbench.py LEAKBENCH ENCODER.onnx [--work FOLDER] [--seeds 0,1,2] [--json FILE]

Trains what --work does not hold yet (about ten minutes a seed on two idle cores), fits thresholds on validation
images, and measures on test images. Prints each figure beside its target.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from leakrt.cli.console import ConsoleProgress, table
from leakrt.core.decision import probabilities
from leakrt.core.files import atomic_write, cache_folder
from leakrt.core.spec import ModelSpec
from leakrt.train.config import TrainConfig
from leakrt.train.evaluation import evaluate
from leakrt.train.fit import fit_run
from leakrt.train.judge_images import judge_images
from leakrt.train.labelled import labelled_images, open_images
from leakrt.train.predict import predict
from leakrt.train.run import Run
from leakrt.train.session import TrainRequest, train

SCALE = 0.18215
TARGET_AUC, TARGET_BALANCED, TARGET_COVERAGE = 0.965, 0.74, 0.7


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--work", type=Path, default=Path("leakbench-runs"))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/leakbench.json"))
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    runs, others = ([_train(args, seed, ablation) for seed in seeds] for ablation in (False, True))
    full = {run.path.name: _measure(run, args.data) for run in runs}
    ablation = {run.path.name: _closed_figures(*_test_shares(run)) for run in others}
    difference = _differences(runs, others)
    _print(full, ablation)
    for name, (middle, low, high) in difference.items():
        print(f"  {name}: {middle:+.4f} over the ablation; {low:+.4f} to {high:+.4f} over resampled test images")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(args.json, json.dumps({**full, **ablation, "over_ablation": difference}, indent=1).encode())


def _measure(run: Run, data: Path) -> dict[str, Any]:
    """Figures of one run, by its verdicts."""
    with ConsoleProgress() as progress:
        fitted = fit_run(run, progress=progress)
        test, unseen = labelled_images(data, "test"), open_images(data / "open").paths
        verdicts = judge_images(fitted, [*test.paths, *unseen], progress=progress)
    count = len(test.paths)
    result = evaluate(verdicts[:count], test.labels, verdicts[count:], spec=run.spec, decision=fitted.judge.decision)
    return result.to_json()


def _train(args: argparse.Namespace, seed: int, ablation: bool) -> Run:
    config = TrainConfig(epochs=args.epochs, seed=seed, threads=1)
    spec = ModelSpec(class_names=("real", "not real"), real_class="real")
    if ablation:
        config, spec = replace(config, head="linear"), replace(spec, timesteps=(0,))
    out = args.work / (f"linear{seed}" if ablation else f"seed{seed}")
    print(f"{out}: {'one-step linear ablation' if ablation else 'four steps, gates, prototypes'}", file=sys.stderr)
    request = TrainRequest(
        data=args.data,
        out=out,
        vae=f"onnx:{args.encoder}",
        cache=cache_folder() / "latents",
        config=config,
        spec=spec,
        vae_scale=SCALE,
    )
    with ConsoleProgress() as progress:
        return train(request, progress=progress)


def _test_shares(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and class probabilities [N, K] of the test images; an ablation has no verdicts to take them from."""
    scores = predict(run.encoder(), run.spec, run.latents("test")).scores
    return run.labels("test"), probabilities(scores, 1.0)


def _closed_figures(labels: np.ndarray, shares: np.ndarray) -> dict[str, float]:
    aucs = [roc_auc_score(labels == k, shares[:, k]) for k in range(shares.shape[1])]
    balanced = balanced_accuracy_score(labels, shares.argmax(axis=1))
    return {"macro_auc": float(np.mean(aucs)), "balanced_accuracy": float(balanced)}


def _differences(runs: list[Run], others: list[Run], resamplings: int = 300) -> dict[str, tuple[float, float, float]]:
    """How far the mean of `runs` lies over that of `others`, with the 2.5th and 97.5th percentile over resamplings of
    the test images, each class by itself: what another draw of images of the same makers would change."""
    first, second = ([_test_shares(run) for run in group] for group in (runs, others))
    labels, draw = first[0][0], np.random.default_rng(0)
    by_class = [np.flatnonzero(labels == k) for k in range(int(labels.max()) + 1)]
    picks = [np.arange(len(labels))]
    picks += [np.concatenate([draw.choice(rows, len(rows)) for rows in by_class]) for _ in range(resamplings)]
    found: dict[str, list[float]] = {}
    for rows in picks:
        ours, theirs = ([_closed_figures(y[rows], p[rows]) for y, p in group] for group in (first, second))
        for name in ours[0]:
            found.setdefault(name, []).append(mean(f[name] for f in ours) - mean(f[name] for f in theirs))
    return {
        name: (values[0], *(float(v) for v in np.percentile(values[1:], [2.5, 97.5]))) for name, values in found.items()
    }


def _print(full: dict[str, dict[str, Any]], ablation: dict[str, dict[str, Any]]) -> None:
    runs, others = list(full.values()), list(ablation.values())
    rows: list[tuple[str, ...]] = [("figure", "mean", "spread", *full, "ablation", "spread", "target")]
    for key, target in (
        ("macro_auc", TARGET_AUC),
        ("balanced_accuracy", TARGET_BALANCED),
        ("coverage", TARGET_COVERAGE),
    ):
        rows.append(_row(key, runs, others, f"at least {target}"))
    for key in ("coverage_real", "generated_called_generated", "open_auroc", "open_fpr95", "oscr", "ece"):
        rows.append(_row(key, runs, [], ""))
    print(table(rows))
    for name, run in full.items():
        low, high = run["false_alarm_interval"]
        where = "inside" if low <= run["false_alarm_count"] <= high else "OUTSIDE"
        print(f"  {name}: {run['false_alarm_count']} false alarms of {run['real_faces']}, {where} [{low}, {high}]")


def _row(key: str, runs: list[dict[str, Any]], others: list[dict[str, Any]], target: str) -> tuple[str, ...]:
    values, ablation = [run[key] for run in runs], [other[key] for other in others if key in other]
    return (key, *_mean_and_spread(values), *(f"{v:.4f}" for v in values), *_mean_and_spread(ablation), target)


def _mean_and_spread(values: list[float]) -> tuple[str, str]:
    """Mean and standard deviation; blank without values."""
    if not values:
        return "", ""
    return f"{mean(values):.4f}", f"{stdev(values) if len(values) > 1 else 0.0:.4f}"


if __name__ == "__main__":
    main()
