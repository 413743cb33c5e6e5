"""The machine's name and load, and this process's memory. Complete on Linux, partial elsewhere."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_BOARD = Path("/proc/device-tree/model")  # for ARM, where cpuinfo has no model name: "NVIDIA Jetson Orin Nano ..."
_STATUS = Path("/proc/self/status")
_STAT = Path("/proc/stat")
_IDLE = slice(3, 5)  # idle and iowait in a line of /proc/stat
_COUNTED = 8  # user to steal; user time includes guest time


@dataclass(frozen=True)
class ProcessMemory:
    """Memory of this process in bytes; None if the system does not report it."""

    resident: int | None
    peak: int | None  # highest resident size so far


@dataclass(frozen=True)
class CpuTimes:
    """CPU seconds since boot, summed over all logical CPUs, and those of this process."""

    busy: float
    total: float
    own: float


def cpu_name() -> str:
    """Return the CPU's model name, else the board's, else the architecture."""
    for line in _lines(_CPUINFO):
        name, _, value = line.partition(":")
        if name.strip() == "model name" and value.strip():
            return value.strip()
    board = "".join(_lines(_BOARD)[:1]).strip("\0 \n")
    return board or platform.processor() or platform.machine()


def host_memory() -> ProcessMemory:
    """Return this process's memory. Does not use ru_maxrss, which starts at the parent's peak in a child."""
    found = dict(line.partition(":")[::2] for line in _lines(_STATUS))
    return ProcessMemory(_kib(found.get("VmRSS", "")), _kib(found.get("VmHWM", "")))


def cpu_times() -> CpuTimes | None:
    """Return a reading for `busy_elsewhere`; None if the system does not report it."""
    fields = next((line.split()[1 : 1 + _COUNTED] for line in _lines(_STAT) if line.startswith("cpu ")), [])
    if len(fields) < _IDLE.stop:
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    seconds = [int(field) / ticks for field in fields]
    own = os.times()
    return CpuTimes(sum(seconds) - sum(seconds[_IDLE]), sum(seconds), own.user + own.system)


def busy_elsewhere(before: CpuTimes | None, after: CpuTimes | None) -> float | None:
    """Return the share of all CPU time, 0 to 1, that other processes used between two readings."""
    if before is None or after is None or after.total <= before.total:
        return None
    others = (after.busy - before.busy) - (after.own - before.own)
    return min(1.0, max(0.0, others / (after.total - before.total)))


def load_average() -> float | None:
    """Return the load average of the last minute; None if the system does not report it."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _kib(text: str) -> int | None:
    words = text.split()
    return 1024 * int(words[0]) if words and words[0].isdigit() else None
