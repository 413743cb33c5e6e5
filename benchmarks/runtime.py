"""A bundle on ONNX Runtime: overhead over its two bare sessions, start-up, memory, and whether scores ever move.

    python benchmarks/runtime.py BUNDLE IMAGE... [--rounds 200]

Ratios are taken side by side in one process, one call of each in turn. Prints each figure beside its target.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from timing import milliseconds

from leakrt.cli.console import table
from leakrt.core.bundle import Bundle
from leakrt.core.images import read_image
from leakrt.runtime.detector import Detector
from leakrt.runtime.threads import resolve_threads

_BLOCK, _SETTLE = 20, 5  # calls in a row that are counted, and those before them that are not
_START = """
import sys, time
from pathlib import Path
begin = time.perf_counter()
from leakrt import Detector
Detector.load(sys.argv[1], backend="onnxruntime", precision="fp32").check(sys.argv[2])
seconds = time.perf_counter() - begin
# not ru_maxrss, which in a child starts at its parent's peak
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(seconds, int(peak.split()[1]) * 1024 / 1e6)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    rows: list[tuple[str, ...]] = [("figure", "measured", "target")]
    rows += [*_overhead(args.bundle, args.images[0], args.rounds), *_start(args.bundle, args.images[0])]
    rows += [_determinism(args.bundle, args.images)]
    print(table(rows))


def _overhead(bundle: Path, image: Path, rounds: int) -> list[tuple[str, str, str]]:
    """p50 of Detector.check on a frame over that of its two bare sessions, with the same threads: as a session is made
    by default, and as the detector makes its own.

    Twenty calls of each in turn, after five that are not counted: the threads of a default session spin on for a while
    after its last call and would take the other's cores.
    """
    frame, detector = read_image(image).pixels, Detector.load(bundle, backend="onnxruntime", precision="fp32")
    rows = []
    for kind, stop in (("bare sessions", False), ("bare sessions that stop spinning as its own do", True)):
        laps = {"ours": partial(detector.check, frame), "theirs": _bare(bundle, stop)}
        times: dict[str, list[float]] = {name: [] for name in laps}
        for _ in range(max(1, rounds // _BLOCK)):
            for name, lap in laps.items():
                times[name] += [milliseconds(lap) for _ in range(_SETTLE + _BLOCK)][_SETTLE:]
        ours, theirs = (float(np.median(found)) for found in times.values())
        figure = f"{ours / theirs:.3f}  ({ours:.2f} / {theirs:.2f} ms)"
        rows.append((f"Detector.check / {kind}", figure, "at most 1.10"))
    return rows


def _bare(bundle: Path, stop: bool) -> Callable[[], Any]:
    import onnxruntime as ort

    opened = Bundle(bundle)
    options = ort.SessionOptions()
    options.intra_op_num_threads = resolve_threads(0)
    if stop:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    precision, spec = "fp32", opened.spec
    vae, leak = (ort.InferenceSession(opened.graph(s, precision), options) for s in ("vae_encoder", "leak_encoder"))
    draw = np.random.default_rng(0)
    picture = draw.uniform(-1, 1, (1, 3, spec.image_size, spec.image_size)).astype(np.float32)
    noised = draw.standard_normal((spec.draws, len(spec.timesteps), *spec.latent_shape)).astype(np.float32)
    return lambda: (vae.run(None, {"image": picture}), leak.run(None, {"noised": noised}))


def _start(bundle: Path, image: Path) -> list[tuple[str, str, str]]:
    """New processes: seconds from import to the first verdict, and peak resident memory."""
    results = []
    for _ in range(5):
        command = [sys.executable, "-c", _START, str(bundle), str(image)]
        results.append(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    seconds, memory = np.median(np.array(results, float), axis=0)
    return [
        ("load to first verdict", f"{seconds:.2f} s", "at most 1.5 s"),
        ("peak resident memory", f"{memory:.0f} MB", "at most 400 MB"),
    ]


def _determinism(bundle: Path, images: list[Path]) -> tuple[str, str, str]:
    """The largest difference of any score over runs, batches of 1, 2, 3 and 8, and 1 to 3 threads."""
    reference, largest, kinds = None, 0.0, set()
    for threads in (1, 2, 3):
        detector = Detector.load(bundle, backend="onnxruntime", precision="fp32", threads=threads)
        for batch in (1, 2, 3, 8):
            verdicts = list(detector.check_stream(images, batch=batch))
            scores = np.array([list(v.scores.values()) for v in verdicts])
            reference = scores if reference is None else reference
            largest = max(largest, float(np.abs(scores - reference).max()))
            kinds.add(tuple((v.verdict, v.label) for v in verdicts))
    same = "same verdicts" if len(kinds) == 1 else "VERDICTS DIFFER"
    return ("largest score difference", f"{largest:.1e}, {same}", "at most 1e-06")


if __name__ == "__main__":
    main()
