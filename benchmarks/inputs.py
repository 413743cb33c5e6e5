"""Whether what is judged is what was handed in: prints every situation, its cases, and the silent faults among them.

    python benchmarks/inputs.py [--shared FOLDER] [--bundle BUNDLE] [--only pixels,streams] [--quick] [--json]

Exits with code 1 if a fault is silent or a target is missed. The situations are in benchmarks/situations/.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from situations.row import Inputs, Row

from leakrt.cli.console import table

PARTS = ("pixels", "folders", "streams", "faces", "encoders", "processes")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    inputs = Inputs(shared=args.shared, bundle=args.bundle, quick=args.quick)
    rows: list[Row] = []
    for part in args.only.split(","):
        found = importlib.import_module(f"situations.{part}").measure(inputs)
        rows += found
        if not args.json:
            print(f"{part}\n{table([_HEAD, *map(_cells, found)])}\n", flush=True)
    silent = sum(row.silent or 0 for row in rows)
    if args.json:
        print(json.dumps({"silent": silent, "rows": [asdict(row) for row in rows]}, indent=1))
    else:
        print(f"silent faults: {silent}")
    sys.exit(0 if all(row.passed for row in rows) else 1)


_HEAD = ("situation", "cases", "silent", "measured", "asked", "")


def _cells(row: Row) -> tuple[str, ...]:
    silent = "" if row.silent is None else str(row.silent)
    return (row.situation, f"{row.tried:,}", silent, row.figure, row.target, "" if row.passed else "MISSED")


if __name__ == "__main__":
    main()
