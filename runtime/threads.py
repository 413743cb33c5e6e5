"""How many threads a detector should use."""

from __future__ import annotations

import os
from pathlib import Path

from ..core.errors import UsageError

_MOST = 1024
_TOPOLOGY = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def resolve_threads(threads: int) -> int:
    """`threads`, or with 0 one for each physical core this process may run on, within its cgroup's quota.

    Two hyper-threads share one core's vector units, so the second only waits. Raises UsageError when negative, or more
    than any machine has cores: a library would start them all, and seem to hang.
    """
    if not 0 <= threads <= _MOST:
        raise UsageError(f"{threads} threads; between 1 and {_MOST} are possible, and 0 means one for each core")
    return threads or max(1, min(_physical_cores(), _quota()))


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


def _quota() -> int:
    """Cores that the cgroup's time quota is worth, rounded up; a large number without one."""
    try:
        quota, period = _QUOTA.read_text().split()[:2]
        return -(-int(quota) // int(period))
    except (OSError, ValueError):
        return 1 << 16
