"""The number of CPU threads that a detector uses."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ..core.errors import UsageError
from .cgroups import cpu_quota

_MOST = 1024
_TOPOLOGY = Path("/sys/devices/system/cpu")


def resolve_threads(threads: int) -> int:
    """Return `threads`; for 0, one per physical core in the affinity mask, at most the cgroup's CPU quota rounded up.

    Hyper-threads are not counted, because two of them share one core's vector units. Raises UsageError if `threads` is
    negative or over 1024: a library would start them all and appear to hang.
    """
    if not 0 <= threads <= _MOST:
        raise UsageError(f"invalid number of threads {threads}: must be 1 to {_MOST}, or 0 for one per core")
    if threads:
        return threads
    cores, quota = _physical_cores(), cpu_quota()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def _physical_cores() -> int:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    return len(cores)


def _siblings(cpu: int) -> str:
    """Return the kernel's list of hyper-threads on the core of `cpu`; on other systems, only `cpu`."""
    try:
        return (_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return str(cpu)
