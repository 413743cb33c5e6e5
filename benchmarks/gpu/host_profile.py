"""Where the host's time of a call goes, function by function: what to look at when a chain's host overhead is large."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from pathlib import Path

_ROWS = 20


def profiled(call: Callable[[], object], rounds: int) -> list[dict[str, object]]:
    """The functions of the calling thread that took most: microseconds of their own and calls, for one `call`.

    A profiled function takes longer than others do, the more so the shorter it is: shares count, and not sums.
    """
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(rounds):
        call()
    profile.disable()
    found = pstats.Stats(profile).stats
    most = sorted(found.items(), key=lambda entry: -entry[1][2])[:_ROWS]
    return [
        {"function": _name(*where), "own_us": round(1e6 * own / rounds, 2), "calls": calls / rounds}
        for where, (_, calls, own, _, _) in most
    ]


def _name(file: str, line: int, function: str) -> str:
    """Without the folder that something is installed in."""
    return function if file == "~" else f"{Path(file).name}:{line} {function}"
