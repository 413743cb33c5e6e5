"""A hundred thousand frames of changing sizes, or eight minutes of them: does memory grow?

Held memory is read every five seconds: of this process by the kernel, of the GPU by nvidia-smi. The first fifth is
warm-up. Growth is the slope of a line through what follows, over that time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from loading import detector_of
from part import Part, gpu_state, one_line, summary

from leakrt import Detector
from leakrt.core.bundle import Bundle
from leakrt.core.errors import LeakRTError
from leakrt.runtime.loaded import LoadedVariant
from leakrt.runtime.machine import host_memory
from leakrt.runtime.threads import resolve_threads

_FRAMES, _EVERY = 100_000, 5.0  # frames; seconds between two readings
_ALLOWED = 16 << 20  # bytes that either may seem to grow by, from noise in the readings
_SIZES = ((256, 256), (480, 640), (720, 1280), (300, 260), (1080, 1920), (97, 131), (512, 512), (64, 900))
_ORDER = ("tensorrt", "torch")


def main() -> None:
    """Run, read, fit."""
    part = Part(__doc__, _options)
    detector = _load(part)
    if detector is None:
        return
    part.set("backend", detector.describe().__dict__)
    frames = [np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8) for i, size in enumerate(_SIZES)]
    wanted = 4 if part.rehearse else _FRAMES
    scores = [detector.check(frame).scores for frame in frames[: wanted if part.rehearse else None]]
    begin = shown = time.monotonic()
    walls = np.zeros(wanted)  # touched now: it must not look like growth
    readings, done, moved = [_reading(begin)], 0, 0
    while done < wanted and time.monotonic() - begin < part.options.seconds:
        index = done % len(scores)
        start = time.perf_counter()
        verdict = detector.check(frames[index])
        walls[done] = 1e3 * (time.perf_counter() - start)
        moved += verdict.scores != scores[index]
        done += 1
        if time.monotonic() - shown >= _EVERY:
            shown = time.monotonic()
            readings.append(_reading(begin))
            part.set("so far", {"frames": done, "readings": readings})
    readings.append(_reading(begin))
    part.set("frames", done)
    part.set("seconds", time.monotonic() - begin)
    part.set("verdict_ms", summary(walls[:done].tolist()))
    part.set("frames whose scores moved", moved)
    if moved:
        part.fail(f"{moved} frames gave other scores than at first")
    part.set("counters", detector.counters.__dict__)
    for name in ("host", "device"):
        grown = growth([r[name] for r in readings], [r["seconds"] for r in readings])
        part.set(f"{name} grew by", grown)
        if grown is not None and grown > _ALLOWED and not part.rehearse:
            part.fail(f"{name} memory grew by {grown / 2**20:.1f} MiB")
    part.end()


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument("--backend", default="", help="the first that loads of tensorrt and torch when empty")
    parser.add_argument("--precision", default="fp16")


def _load(part: Part) -> Detector | None:
    """The first that loads; None where none does, and that is told."""
    problems = []
    precision = "fp32" if part.rehearse else part.options.precision
    for name in [part.options.backend] if part.options.backend else _ORDER:
        try:
            bundle = Bundle(part.work / "bundle")
            return detector_of(bundle, LoadedVariant.load(bundle, precision, name, threads=resolve_threads(0)))
        except (LeakRTError, OSError) as error:
            problems.append(one_line(error))
    part.set("skipped", "; ".join(problems))
    return None


def _reading(begin: float) -> dict[str, float | None]:
    used = gpu_state(("memory.used",)).get("memory.used", "").split()
    device = float(used[0]) * 2**20 if used and used[0].isdigit() else None
    return {"seconds": time.monotonic() - begin, "host": host_memory().resident, "device": device}


def growth(held: Sequence[float | None], seconds: Sequence[float]) -> float | None:
    """Bytes by which the line through all but the first fifth rises; None with fewer than three readings."""
    known = [(s, h) for s, h in zip(seconds, held, strict=True) if h is not None]
    known = known[len(known) // 5 :]
    if len(known) < 3:
        return None
    x, y = np.array(known, np.float64).T
    return float(np.polyfit(x - x[0], y, 1)[0] * (x[-1] - x[0]))


if __name__ == "__main__":
    main()
