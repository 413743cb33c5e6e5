"""What FP16 and INT8 keep of a LeakBench run, and what calibrating costs.

    python benchmarks/precision.py RUN LEAKBENCH [--work FOLDER] [--images 500] [--json FILE]

Exports the run, adds both variants by the command line, evaluates every precision on the test split on each CPU
backend, and tries what the gate should judge: int8 without the refit, and ranges taken from random pictures. Each
command is a process of its own, so that its peak memory is its own. About 20 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from leakrt.cli.console import table
from leakrt.core.files import atomic_write

BACKENDS = ("onnxruntime", "openvino")
MAX_DROP = {"fp16": 0.0005, "int8": 0.002}
MIN_AGREEMENT = {"fp16": ("labels", 0.999), "int8": ("confident", 0.99)}
MAX_SECONDS, MAX_MEGABYTES = 180.0, 1000.0
RANDOM_IMAGES = 256


@dataclass(frozen=True)
class Ran:
    """One command: its exit code, what it printed, and what it took."""

    code: int
    printed: str
    seconds: float
    megabytes: float  # peak resident memory


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
    args.work.mkdir(parents=True)
    plain, bundle = args.work / "fp32", args.work / "bundle"
    _leakrt("export", args.run, "--out", plain)
    shutil.copytree(plain, bundle)
    _leakrt("export", bundle, "--precision", "fp16", "--data", args.data, "--json")
    options = ("--images", args.images, "--json")
    tried = {
        "refit": _calibrate(bundle, args.data, "--run", args.run, *options),
        "no refit": _calibrate(_copy(plain, "norefit"), args.data, "--no-refit", *options),
        "random pictures, no refit": _calibrate(
            _copy(plain, "random"), args.data, "--no-refit", "--range-images", _pictures(args.work), "--json"
        ),
    }
    test = {b: _evaluate(bundle, args.data, b) for b in BACKENDS}
    _print_test(test)
    _print_calibrations(tried)
    print(f"load of the machine before: {load:.1f}")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(args.json, json.dumps({"load_before": load, "calibrations": tried, "test": test}, indent=1).encode())


def _leakrt(*arguments: object) -> Ran:
    begin = time.perf_counter()
    command = [sys.executable, "-m", "leakrt", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return Ran(process.returncode, printed, time.perf_counter() - begin, usage.ru_maxrss / 1e3)


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
    ran = _leakrt("calibrate", bundle, *arguments)
    found = json.loads(ran.printed)
    return {
        "written": found["written"] is not None,
        "seconds": ran.seconds,
        "megabytes": ran.megabytes,
        "attempts": found["attempts"],
    }


def _evaluate(bundle: Path, data: Path, backend: str) -> dict[str, Any]:
    arguments = ("evaluate", bundle, data, "--precision", "all", "--backend", backend, "--json")
    return dict(json.loads(_leakrt(*arguments).printed))


def _print_test(test: dict[str, dict[str, Any]]) -> None:
    header = ("backend", "precision", "MB", "macro AUC", "drop", "labels", "confident", "verdicts", "alarms", "p50", "")
    rows: list[tuple[str, ...]] = [header]
    for backend, found in test.items():
        exact = found["precisions"]["fp32"]
        rows += [(backend, p, *_row(p, f, exact)) for p, f in found["precisions"].items()]
        rows += [(backend, p, "refused", *[""] * (len(header) - 3)) for p in found["refused"]]
    print(table(rows))


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
        f"{ratio:.2f} x",
        met,
    )


def _print_calibrations(tried: dict[str, dict[str, Any]]) -> None:
    for name, found in tried.items():
        limits = f"at most {MAX_SECONDS:.0f} s, {MAX_MEGABYTES:.0f} MB"
        print(f"{name}: {'written' if found['written'] else 'REFUSED'}; {found['seconds']:.0f} s, ", end="")
        print(f"{found['megabytes']:.0f} MB ({limits})")
        last = found["attempts"][-1]
        for backend, got in last["backends"].items():
            same = f"labels {got['agreement']:.1%}, confident {got['agreement_confident']:.1%}"
            print(
                f"  last attempt on {backend}, validation: macro AUC drop {got['macro_auc_drop']:+.4f}, {same}, ",
                end="",
            )
            print(f"VAE {got['speedup']:.2f} x as fast as fp32")


if __name__ == "__main__":
    main()
