"""The speed of a variant relative to fp32: the median ratio of alternating calls, with its 95 % interval.

CPU backends are compared by the processor time of one thread, which other processes hardly change.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ...core.acceptance import Speedup

ON_CPU = ("onnxruntime", "openvino", "openvino_bf16")  # timed on one thread, by processor time
MIN_PAIRS, MAX_PAIRS = 25, 401
MIN_SECONDS = 1.0  # of timed calls
MAX_SECONDS, FEWEST_PAIRS = 30.0, 7  # slow graphs: after MAX_SECONDS, FEWEST_PAIRS are enough
_WARM_CALLS = 3  # of each, before the first timed call
_RISK = 0.05  # probability that the true median lies outside the interval

R = TypeVar("R")
Clock = Callable[[], float]  # seconds


def clock_of(backend: str) -> Clock:
    """Return the clock for a backend: processor time on a CPU, else wall time."""
    return time.process_time if backend in ON_CPU else time.perf_counter


def measure_speedup(exact: R, variant: R, run: Callable[[R], object], *, clock: Clock) -> Speedup:
    """Time `run` of both runners alternately: at least 25 pairs and one second of timed calls.

    Each timed call follows an untimed call of the same runner, which refills the caches and lets other threads stop
    spinning. The first runner of a pair alternates, so a changing load favours neither. The two calls of a pair see the
    same load, so the ratio is taken per pair; the median tolerates interrupted calls.
    """
    for runner in (exact, variant):
        for _ in range(_WARM_CALLS):
            run(runner)
    ratios: list[float] = []
    spent, begin = 0.0, time.perf_counter()
    while not _enough(len(ratios), spent, time.perf_counter() - begin):
        first, second = (exact, variant) if len(ratios) % 2 == 0 else (variant, exact)
        times = _timed(first, run, clock), _timed(second, run, clock)
        spent += sum(times)
        ratios.append(times[0] / times[1] if len(ratios) % 2 == 0 else times[1] / times[0])
    return Speedup(statistics.median(ratios), *median_interval(ratios), len(ratios))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the median of the distribution of `values`, from order statistics.

    The number of values under the true median is binomial with p = 1/2, so the k-th smallest and the k-th largest value
    enclose it unless fewer than k values lie on one side (Conover, Practical Nonparametric Statistics, 3.2). With fewer
    than six values the interval is the smallest and the largest value, and less than 95 %.
    """
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0  # probability that fewer than `rank` values lie on one given side
    while rank < (count + 1) // 2:
        outside += math.comb(count, rank) / 2**count
        if 2.0 * outside > _RISK:
            break
        rank += 1
    place = max(rank, 1) - 1
    return ordered[place], ordered[count - 1 - place]


def _enough(pairs: int, spent: float, passed: float) -> bool:
    precise = pairs >= MIN_PAIRS and spent >= MIN_SECONDS
    return precise or pairs >= MAX_PAIRS or (pairs >= FEWEST_PAIRS and passed >= MAX_SECONDS)


def _timed(runner: R, run: Callable[[R], object], clock: Clock) -> float:
    run(runner)
    begin = clock()
    run(runner)
    return max(clock() - begin, 1e-9)
