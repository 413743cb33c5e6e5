"""ONNX Runtime's quantiser and NVIDIA ModelOpt, with the same images: accuracy, share, time, size, what RTX builds.

    python benchmarks/quantisers.py BUNDLE DATA [--run RUN] [--work FOLDER] [--images 256] [--rounds 60] [--threads N]
        [--json FILE]

BUNDLE is an fp32 bundle, DATA its run's images. Each quantiser calibrates a copy by the command line, in a process of
its own and from an empty cache; the gate's figures are of validation images. Without --run there is no refit, so that
what pairs do to the verdict is seen and not what a refit mends. Both variants and fp32 then take the golden image in
turn on both CPU backends. What lies in FOLDER is not calibrated again. Needs the extras modelopt, openvino and rtx.
About 5 minutes without a refit.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from commands import run_leakrt
from int8_layers import golden_runs
from timing import in_turn, machine, ratios, summary

from leakrt.calibration.quantisers import MODELOPT, ONNXRUNTIME
from leakrt.cli.console import size, table
from leakrt.core.bundle import Bundle
from leakrt.core.errors import LeakRTError
from leakrt.core.files import atomic_write
from leakrt.core.progress import silent
from leakrt.engines.build import BuildRequest, build_bundle
from leakrt.engines.builder import BuildOptions
from leakrt.engines.cache import EngineCache
from leakrt.engines.inspector import count_precisions
from leakrt.engines.installed import load_flavour
from leakrt.runtime.threads import resolve_threads

QUANTIZERS = (ONNXRUNTIME, MODELOPT)
TARGET = "8.6"  # compute capability
BACKENDS = ("onnxruntime", "openvino")


def main() -> None:
    """Calibrate, time, build, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--work", type=Path, default=Path("quantiser-bundles"))
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0, help="of what is timed")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    refit = ("--run", args.run) if args.run else ("--no-refit",)
    found = {name: calibrate(args, name, refit) for name in QUANTIZERS}
    written = {name: Bundle(args.work / name) for name, told in found.items() if told["written"]}
    told, threads = machine(), resolve_threads(args.threads)
    works = {f"{q} {key}": run for q, bundle in written.items() for key, run in golden_runs(bundle, threads).items()}
    taken = in_turn(works, args.rounds)
    for name, bundle in written.items():
        found[name] |= {
            "ratios": {b: ratios(*(taken[f"{name} {b} {p}"] for p in ("int8", "fp32"))) for b in BACKENDS},
            "rtx": build(bundle),
        }
        found[name]["bytes"] = bundle.variant_size("int8")
    print_comparison(found)
    print(f"{threads} threads, {told}")
    if args.json:
        body = {"machine": told, "threads": threads, "quantizers": found, "milliseconds": summary(taken)}
        atomic_write(args.json, json.dumps(body, indent=1).encode())


def calibrate(args: argparse.Namespace, name: str, refit: tuple[object, ...]) -> dict[str, Any]:
    """What `leakrt calibrate --quantizer NAME` says of its last attempt, with time and peak memory; kept in --work."""
    kept = args.work / f"{name}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    os.environ["XDG_CACHE_HOME"] = str(args.work / f"{name}-cache")  # where ranges are kept
    copy = shutil.copytree(args.bundle, args.work / name)
    options = ("--quantizer", name, "--images", args.images, "--json", *refit)
    ran = run_leakrt("calibrate", copy, args.data, *options)
    told = json.loads(ran.printed)
    last = told["attempts"][-1]
    found = {
        "written": told["written"] is not None,
        "attempts": len(told["attempts"]),
        "share": last["int8_share"],
        "failures": last["failures"],
        "backends": last["backends"],
        "seconds": ran.seconds,
        "cpu_seconds": ran.cpu_seconds,
        "megabytes": ran.megabytes,
    }
    atomic_write(kept, json.dumps(found).encode())
    return found


def build(bundle: Bundle) -> dict[str, Any]:
    """The engines that TensorRT-RTX makes of it on this CPU: layers of each precision, or why there are none."""
    request = BuildRequest("int8", load_flavour("tensorrt-rtx"), BuildOptions(targets=(TARGET,)))
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcomes = build_bundle(bundle, request, EngineCache(Path(folder), 8 << 30), silent)
        except LeakRTError as error:
            return {"built": False, "why": str(error)}
        records = [outcome.record for outcome in outcomes]
    return {
        "built": True,
        "bytes": sum(record.size for record in records),
        "layers": {record.key.graph: count_precisions(record.compiled) for record in records},
    }


def print_comparison(found: dict[str, dict[str, Any]]) -> None:
    """A column for each quantiser."""
    columns = [_column(told) for told in found.values()]
    rows = [("", *found)]
    rows += [(what, *(column.get(what, "-") for column in columns)) for what in columns[0]]
    print(table(rows))


def _column(told: dict[str, Any]) -> dict[str, str]:
    column = {
        "variant": "written" if told["written"] else "REFUSED",
        "attempts": str(told["attempts"]),
        "share of the VAE's multiplications in int8": f"{told['share']:.1%}",
    }
    for name, got in told["backends"].items():
        column[f"macro AUC lost, {name}"] = f"{got['macro_auc_drop']:+.4f}"
        same = f"{got['agreement']:.1%}; {got['agreement_confident']:.1%}"
        column[f"labels as fp32, all; confident, {name}"] = same
    column |= {
        "calibration": f"{told['seconds']:.0f} s ({told['cpu_seconds']:.0f} s of processor), {told['megabytes']:.0f} MB"
    }
    if told["written"]:
        column |= {
            f"time over fp32, {b}: median; shortest": f"{middle:.2f}; {least:.2f}"
            for b, (middle, least) in told["ratios"].items()
        }
        rtx = told["rtx"]
        layers = "; ".join(f"{graph} {counts}" for graph, counts in rtx.get("layers", {}).items())
        column["both graphs and density"] = size(told["bytes"])
        column["TensorRT-RTX"] = f"{size(rtx['bytes'])}: {layers}" if rtx["built"] else f"FAILED: {rtx['why']}"
    return column


if __name__ == "__main__":
    main()
