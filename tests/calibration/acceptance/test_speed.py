"""Speedups: timed calls, their order and the confidence interval."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from leakrt.calibration.acceptance import speed
from leakrt.calibration.acceptance.speed import clock_of, measure_speedup, median_interval
from leakrt.core.acceptance import Speedup


class Machine:
    """A clock that advances by `cost(runner, number of the call)` with each call."""

    def __init__(self, cost):
        self.now, self.order, self._cost = 0.0, [], cost

    def clock(self):
        return self.now

    def run(self, runner):
        self.now += self._cost(runner, len(self.order))
        self.order.append(runner)

    def measure(self):
        return measure_speedup("exact", "variant", self.run, clock=self.clock)


def test_calls_alternate_after_a_warm_up_and_each_follows_an_untimed_one():
    machine = Machine(lambda runner, call: 1.0 if runner == "exact" else 0.5)
    assert machine.measure() == Speedup(2.0, 2.0, 2.0, speed.MIN_PAIRS)
    assert machine.order[:6] == ["exact"] * 3 + ["variant"] * 3
    assert machine.order[6:14] == ["exact"] * 2 + ["variant"] * 4 + ["exact"] * 2
    assert machine.order.count("exact") == machine.order.count("variant") == 3 + 2 * speed.MIN_PAIRS


def test_a_growing_load_favours_neither_runner():
    machine = Machine(lambda runner, call: (1.0 + call / 20) * (1.0 if runner == "exact" else 0.5))
    found = machine.measure()
    assert found.median == pytest.approx(2.0, rel=0.06)
    assert found.low < 2.0 < found.high


def test_one_outlier_does_not_change_the_median():
    machine = Machine(lambda runner, call: 100.0 if call in (9, 21, 40) else 1.0 if runner == "exact" else 0.8)
    assert machine.measure().median == pytest.approx(1.25)
    assert (machine.measure().low, machine.measure().high) == (pytest.approx(1.25), pytest.approx(1.25))


def test_scatter_shows_in_the_interval_and_its_lower_end_is_under_the_median():
    rng = np.random.default_rng(0)
    found = Machine(lambda runner, call: rng.uniform(0.5, 1.5)).measure()
    assert found.low < 0.95 < found.median < 1.05 < found.high
    assert "x as fast as fp32 (" in str(found)


def test_quick_calls_are_repeated_until_a_second_was_timed_or_enough_pairs_were_made():
    assert Machine(lambda runner, call: 0.0101).measure().pairs == 50
    assert Machine(lambda runner, call: 1e-6).measure().pairs == speed.MAX_PAIRS


def test_slow_calls_are_few(monkeypatch):
    monkeypatch.setattr(speed, "MAX_SECONDS", 0.0)
    assert Machine(lambda runner, call: 9.0).measure().pairs == speed.FEWEST_PAIRS


def test_the_interval_holds_the_true_median_as_often_as_it_says_and_is_no_wider_than_it_must_be():
    rng, count, tries = np.random.default_rng(1), 25, 4000
    held = 0
    for _ in range(tries):
        low, high = median_interval(rng.exponential(size=count).tolist())
        held += low <= math.log(2) <= high
    assert 0.95 <= held / tries < 0.975  # 0.957 by the binomial law


def test_few_values_give_their_smallest_and_largest():
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert median_interval([2.0]) == (2.0, 2.0)
    assert median_interval([5.0, 1.0, 2.0, 3.0, 4.0, 6.0]) == (1.0, 6.0)


def test_a_cpu_backend_is_timed_by_the_processor_and_a_device_by_the_clock():
    assert clock_of("openvino") is time.process_time
    assert clock_of("tensorrt") is clock_of("torch") is time.perf_counter


def test_the_manifest_gets_the_median_its_interval_and_the_pairs():
    told = Speedup(1.5, 1.4, 1.6, 30).to_json()
    assert told == {"speedup": 1.5, "speedup_interval": [1.4, 1.6], "speedup_pairs": 30}
