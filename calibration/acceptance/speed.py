"""How many times as fast as fp32 a variant is: pairs of calls in turn, their median, and how sure it is.

On a CPU it is the processor's time that is compared, of one thread. Wall time scatters with whatever else runs, and
threads of a pool wait for one another: with two threads on two cores that had other work, fp32 on ONNX Runtime took
2.5 x as long as with one, and 15 pairs said 1.2 to 2.5 for the same two graphs. So measured, in eight tries each:

| LeakBench's VAE encoder, ONNX Runtime | with little else running | beside three busy processes on two cores |
| wall time, two threads                | 1.18 to 1.63             | 1.12 to 2.24                             |
| wall time, one thread                 | 1.68 to 1.98             | 1.27 to 1.83                             |
| processor time, one thread            | 1.70 to 1.74             | 1.64 to 1.70                             |
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from ...core.gates import Speedup

ON_CPU = ("onnxruntime", "openvino", "openvino_bf16")  # backends that are timed on one thread, by the processor's time
MIN_PAIRS, MAX_PAIRS = 25, 401
MIN_SECONDS = 1.0  # of calls that were timed
MAX_SECONDS, FEWEST_PAIRS = 30.0, 7  # slow graphs: after so long so few are enough
_WARM_CALLS = 3  # of each, before anything is timed
_RISK = 0.05  # that the true median lies outside the interval

R = TypeVar("R")
Clock = Callable[[], float]  # seconds


def clock_of(backend: str) -> Clock:
    """What a backend is timed by: the time of this process's threads where they compute, else the time that passes."""
    return time.process_time if backend in ON_CPU else time.perf_counter


def measure_speedup(exact: R, variant: R, run: Callable[[R], object], *, clock: Clock) -> Speedup:
    """Time `run` of both in turn, at least 25 pairs and a second of timed calls.

    Each timed call follows one of the same runner that isn't timed: the other's threads may still spin, and its data
    fill the caches. Which of the two begins alternates, so that a load that grows or falls favours neither. One ratio
    a pair, since both of a pair meet the same load, and the median, since what interrupts one call spoils one ratio.
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
    """The 95 % interval of the median of whatever distribution `values` were drawn from, from their order.

    The number of values under the true median is binomial with 1/2, so the k-th smallest and the k-th largest enclose
    it unless fewer than k fall on one side (Conover, Practical Nonparametric Statistics, 3.2). With fewer than six
    values no such pair is that sure: the smallest and the largest are given.
    """
    ordered, count = sorted(values), len(values)
    outside, rank = 0.0, 0  # probability that fewer than `rank` values lie on one stated side
    while rank < (count + 1) // 2:
        outside += math.comb(count, rank) / 2**count
        if 2.0 * outside > _RISK:
            break
        rank += 1
    place = max(rank, 1) - 1
    return ordered[place], ordered[count - 1 - place]


def _enough(pairs: int, spent: float, passed: float) -> bool:
    sure = pairs >= MIN_PAIRS and spent >= MIN_SECONDS
    return sure or pairs >= MAX_PAIRS or (pairs >= FEWEST_PAIRS and passed >= MAX_SECONDS)


def _timed(runner: R, run: Callable[[R], object], clock: Clock) -> float:
    run(runner)
    begin = clock()
    run(runner)
    return max(clock() - begin, 1e-9)
