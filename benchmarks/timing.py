"""One call, timed. Ratios come from calls that take turns in one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def milliseconds(work: Callable[[], Any]) -> float:
    """How long one call of `work` takes."""
    begin = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begin)
