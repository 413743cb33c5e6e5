"""What profiling itself costs: p50 of a profiled call over p50 of a plain `Detector.check`, taken in turns.

    python benchmarks/profile_overhead.py BUNDLE [--rounds 20] [--block 0.5] [--threads 0]

Each round times a block of plain calls and a block of a profile, progress on stderr as `leakrt profile` shows it;
which comes first alternates. Prints the ratio beside its target and the load it was taken under.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from leakrt import Detector
from leakrt.cli.console import ConsoleProgress, table
from leakrt.core.progress import Progress
from leakrt.runtime.machine import busy_elsewhere, cpu_times, load_average
from leakrt.runtime.prepare import Frame
from leakrt.runtime.profiling.measure import measure

_TARGET = 1.02


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--block", type=float, default=0.5, help="seconds of each block")
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    detector = Detector.load(args.bundle, threads=args.threads)
    frame = detector.bundle.golden().image
    before, load = cpu_times(), load_average()
    with ConsoleProgress() as progress:
        pairs = [_round(detector, frame, args.block, i % 2 == 0, progress) for i in range(args.rounds)]
    plain, profiled = np.median(np.array(pairs), axis=0)
    ratio = float(np.median([b / a for a, b in pairs]))
    busy = busy_elsewhere(before, cpu_times())
    rows: list[tuple[str, ...]] = [
        ("figure", "measured", "target"),
        ("p50 profiled / plain", f"{ratio:.4f}  ({profiled:.3f} / {plain:.3f} ms)", f"at most {_TARGET}"),
        ("load average before", "not known" if load is None else f"{load:.2f}", ""),
        ("CPU used by others", "not known" if busy is None else f"{100 * busy:.0f} %", ""),
    ]
    print(table(rows))


def _round(
    detector: Detector, frame: Frame, block: float, plain_first: bool, progress: Progress
) -> tuple[float, float]:
    """p50 of both in milliseconds: plain, profiled."""
    plain = _plain(detector, frame, block) if plain_first else 0.0
    profiled = measure([detector], [frame], block, progress=progress).end_to_end.p50
    return plain or _plain(detector, frame, block), profiled


def _plain(detector: Detector, frame: Frame, block: float) -> float:
    times, end = [], time.perf_counter() + block
    for _ in range(10):
        detector.check(frame)
    while time.perf_counter() < end or len(times) < 3:
        begin = time.perf_counter()
        detector.check(frame)
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times))


if __name__ == "__main__":
    main()
