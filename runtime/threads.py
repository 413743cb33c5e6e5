"""How many threads a detector should use."""

from __future__ import annotations

import math
import os
from pathlib import Path

from ..core.errors import UsageError
from .cgroups import cpu_quota

_MOST = 1024
_TOPOLOGY = Path("/sys/devices/system/cpu")


def resolve_threads(threads: int) -> int:
    """`threads`, or with 0 one for each physical core of the affinity mask, within the cgroup's quota, rounded up.

    Two hyper-threads share one core's vector units, so the second only waits. Raises UsageError when negative, or more
    than any machine has cores: a library would start them all, and seem to hang.
    """
    if not 0 <= threads <= _MOST:
        raise UsageError(f"{threads} threads; between 1 and {_MOST} are possible, and 0 means one for each core")
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
    """The hyper-threads on the core of `cpu`, as the kernel writes them; on other systems `cpu` alone."""
    try:
        return (_TOPOLOGY / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return str(cpu)
