"""How well the quickstart's detector does, and how long it takes, for several seeds of pictures and training.

    python benchmarks/quickstart.py [--work FOLDER] [--seeds 0,1,2,3] [--json FILE]

Runs `leakrt quickstart` once a seed, one after the other, and evaluates each bundle on its held-out pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from leakrt.cli.console import table
from leakrt.core.files import atomic_write

LIMIT_S = 300.0
FIGURES = ("macro_auc", "balanced_accuracy", "coverage", "false_alarm_count", "open_auroc")


def main() -> None:
    """Run, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("quickstart-seeds"))
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/quickstart.json"))
    args = parser.parse_args()
    load = os.getloadavg()[0]
    seeds = {seed: _measure(args.work / f"seed{seed}", seed) for seed in args.seeds.split(",")}
    rows = [("seed", "seconds", *FIGURES)]
    rows += [(s, f"{f['seconds']:.0f}", *(f"{f[name]:.4g}" for name in FIGURES)) for s, f in seeds.items()]
    print(table(rows))
    print(f"at most {LIMIT_S:.0f} s wanted; load of the machine before: {load:.1f}")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(args.json, json.dumps({"load_before": load, "seeds": seeds}, indent=1).encode())


def _measure(out: Path, seed: str) -> dict[str, Any]:
    leakrt = [sys.executable, "-m", "leakrt"]
    if out.exists():
        sys.exit(f"{out} is there already: its time would say nothing; give another --work")
    begin = time.perf_counter()
    subprocess.run([*leakrt, "quickstart", "--seed", seed, "--out", out], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begin
    command = [*leakrt, "evaluate", out / "bundle", out / "data", "--open", out / "open", "--json"]
    figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return {"seconds": seconds, **{name: figures[name] for name in FIGURES}}


if __name__ == "__main__":
    main()
