"""One call, timed. Ratios come from calls that take turns in one process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from leakrt.runtime.machine import cpu_name

_INT8_FLAGS = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8")


def milliseconds(work: Callable[[], Any]) -> float:
    """How long one call of `work` takes."""
    begin = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begin)


def in_turn(works: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each, `rounds` times in turn, so that all meet the same load; a first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):
        for name, work in works.items():
            ms = milliseconds(work)
            if turn:
                taken[name].append(ms)
    return taken


def ratios(taken: Sequence[float], base: Sequence[float]) -> tuple[float, float]:
    """Of times taken in turn: the median of each pair's ratio, and that of the shortest (what else runs only adds)."""
    return median(t / b for t, b in zip(taken, base, strict=True)), min(taken) / min(base)


def summary(taken: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """What a results file keeps of times."""
    return {
        name: {"median": round(median(ms), 3), "shortest": round(min(ms), 3), "rounds": len(ms)}
        for name, ms in taken.items()
    }


def machine() -> dict[str, Any]:
    """What a figure was taken on: CPU, what it has for int8, what oneDNN was told to leave out, load before."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return {
        "cpu": cpu_name(),
        "int8": [flag for flag in _INT8_FLAGS if flag in flags],
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "load_before": os.getloadavg()[0],
    }
