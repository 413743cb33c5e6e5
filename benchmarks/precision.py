"""What FP16 and INT8 keep of a LeakBench run, and what calibrating costs.

    python benchmarks/precision.py RUN LEAKBENCH [--work FOLDER] [--images 500] [--json FILE]

Exports the run, adds both variants by the command line, evaluates every precision on the test split on each CPU
backend, int8 without the refit beside them, and tries ranges taken from random pictures, with the refit and without:
whether they are refused, and what they cost where `--max-shift` takes them all the same. Each command is a process of
its own, so that its peak memory and its processor time are its own. About 20 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from commands import run_leakrt

from leakrt.cli.console import table
from leakrt.core.files import atomic_write

BACKENDS = ("onnxruntime", "openvino")
MAX_DROP = {"fp16": 0.0005, "int8": 0.002}
MIN_AGREEMENT = {"fp16": ("labels", 0.999), "int8": ("confident", 0.99)}
MAX_SECONDS, MAX_MEGABYTES = 180.0, 1000.0
RANDOM_IMAGES = 256
TAKEN = ("--max-shift", 1)  # images of whatever kind


def main() -> None:
    """Make, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("precision-bundles"))
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/precision.json"))
    args = parser.parse_args()
    load = os.getloadavg()[0]
    if args.work.exists():
        parser.error(f"{args.work} is there already; name another --work, for nothing of an earlier run may be used")
    args.work.mkdir(parents=True)
    os.environ["XDG_CACHE_HOME"] = str(args.work.resolve() / "cache")  # no ranges and latents of an earlier run
    plain, bundle = args.work / "fp32", args.work / "bundle"
    run_leakrt("export", args.run, "--out", plain)
    shutil.copytree(plain, bundle)
    run_leakrt("export", bundle, "--precision", "fp16", "--data", args.data, "--json")
    faces, noise = ("--images", args.images), ("--range-images", _pictures(args.work))
    refit, kept = ("--run", args.run), ("--no-refit",)
    bare = _copy(plain, "norefit")
    tried = {
        "refit": _calibrate(bundle, args.data, *refit, *faces),
        "no refit": _calibrate(bare, args.data, *kept, *faces),
    }
    for name, way in (("refit", refit), ("no refit", kept)):
        for told, limit in (("", ()), (" all the same", TAKEN)):
            copy = _copy(plain, f"random-{len(tried)}")
            tried[f"random pictures{told}, {name}"] = _calibrate(copy, args.data, *way, *noise, *limit)
    test = {b: _evaluate(bundle, args.data, b) for b in BACKENDS}
    unfitted = {b: _evaluate(bare, args.data, b) for b in BACKENDS} if tried["no refit"]["written"] else {}
    _print_test(test, unfitted)
    _print_calibrations(tried)
    print(f"load of the machine before: {load:.1f}")
    found = {"load_before": load, "calibrations": tried, "test": test, "test_without_refit": unfitted}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(args.json, json.dumps(found, indent=1).encode())


def _copy(plain: Path, name: str) -> Path:
    return Path(shutil.copytree(plain, plain.parent / name))


def _pictures(work: Path) -> Path:
    """Noise, uint8 [256, 256, 3]: pictures that are no faces."""
    folder, rng = work / "noise", np.random.default_rng(0)
    folder.mkdir()
    for index in range(RANDOM_IMAGES):
        cv2.imwrite(str(folder / f"{index:03d}.png"), rng.integers(0, 256, (256, 256, 3), dtype=np.uint8))
    return folder


def _calibrate(bundle: Path, *arguments: object) -> dict[str, Any]:
    ran = run_leakrt("calibrate", bundle, *arguments, "--json")
    found = json.loads(ran.printed) if ran.printed else {"written": None, "images_shift": None, "attempts": []}
    return {
        "written": found["written"] is not None,
        "said": ran.said.replace(f"{bundle.parent}/", "") if ran.code else "",  # results name no place of this machine
        "images_shift": found["images_shift"],
        "seconds": ran.seconds,
        "cpu_seconds": ran.cpu_seconds,
        "megabytes": ran.megabytes,
        "attempts": found["attempts"],
    }


def _evaluate(bundle: Path, data: Path, backend: str) -> dict[str, Any]:
    arguments = ("evaluate", bundle, data, "--precision", "all", "--backend", backend, "--json")
    return dict(json.loads(run_leakrt(*arguments).printed))


def _print_test(test: dict[str, dict[str, Any]], unfitted: dict[str, dict[str, Any]]) -> None:
    agree = ("labels", "confident", "verdicts")
    header = ("backend", "precision", "MB", "macro AUC", "drop", *agree, "alarms", "p50 ms", "p99 ms", "p50 ratio", "")
    rows: list[tuple[str, ...]] = [header]
    for backend, found in test.items():
        rows += [(backend, *row) for row in _rows(found)]
        without = [row for row in _rows(unfitted.get(backend, {})) if row[0] == "int8"]
        rows += [(backend, "int8, no refit", *row[1:]) for row in without]
        rows += [(backend, p, "refused", *[""] * (len(header) - 3)) for p in found["refused"]]
    print(table(rows))


def _rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    measured = found.get("precisions", {})
    return [(precision, *_row(precision, got, measured["fp32"])) for precision, got in measured.items()]


def _row(precision: str, found: dict[str, Any], exact: dict[str, Any]) -> tuple[str, ...]:
    same, drop = found["agreement"], exact["macro_auc"] - found["macro_auc"]
    low, high = found["false_alarm_interval"]
    ratio = found["latency_ms"]["p50"] / exact["latency_ms"]["p50"]
    met = ""
    if precision in MAX_DROP:
        kind, least = MIN_AGREEMENT[precision]
        inside = low <= found["false_alarm_count"] <= high
        met = "met" if drop <= MAX_DROP[precision] and same[kind] >= least and inside else "MISSED"
    return (
        f"{found['megabytes']:.2f}",
        f"{found['macro_auc']:.4f}",
        f"{drop:+.5f}",
        *(f"{same[name]:.2%}" for name in ("labels", "confident", "verdicts")),
        f"{found['false_alarm_count']} in [{low}, {high}]",
        *(f"{found['latency_ms'][point]:.2f}" for point in ("p50", "p99")),
        f"{ratio:.2f} x",
        met,
    )


def _print_calibrations(tried: dict[str, dict[str, Any]]) -> None:
    limits = f"at most {MAX_SECONDS:.0f} s, {MAX_MEGABYTES:.0f} MB"
    for name, found in tried.items():
        taken = f"{found['seconds']:.0f} s, {found['cpu_seconds']:.0f} s of processor time, {found['megabytes']:.0f} MB"
        print(f"{name}: {'written' if found['written'] else 'REFUSED'}; {taken} ({limits})")
        if found["said"]:
            print(f"  {found['said']}")
        for attempt in found["attempts"]:
            leak = "int8" if attempt["leak_encoder_int8"] else "float"
            print(f"  {attempt['int8_share']:.1%} of the VAE in int8, leak encoder {leak}, on validation images:")
            print("\n".join(_gate_line(backend, got) for backend, got in attempt["backends"].items()))


def _gate_line(backend: str, got: dict[str, Any]) -> str:
    same = f"labels {got['agreement']:.1%}, confident {got['agreement_confident']:.1%}"
    drop, faster = f"macro AUC drop {got['macro_auc_drop']:+.4f}", f"{got['speedup']:.2f} x as fast as fp32"
    return f"    {backend}: {drop}, {same}, {faster}"


if __name__ == "__main__":
    main()
