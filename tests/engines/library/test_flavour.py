"""Version numbers and build progress."""

from __future__ import annotations

import pytest

from leakrt.engines.library.flavour import Monitor, version_numbers


@pytest.mark.parametrize(
    ("text", "numbers"), [("10.13.3.9", (10, 13, 3, 9)), ("11.5.0rc1", (11, 5, 0)), ("", ()), ("dev", ())]
)
def test_versions_are_compared_as_numbers(text, numbers):
    assert version_numbers(text) == numbers


def test_nested_phases_add_up_to_one_value():
    monitor = Monitor()
    assert monitor.share == 0
    monitor.start("build", 4)
    monitor.step("build", 0)
    assert monitor.share == 0.25
    monitor.start("tactics", 2)
    monitor.step("tactics", 0)
    assert monitor.share == 0.375
    monitor.finish("tactics")
    monitor.step("build", 1)
    assert monitor.share == 0.5


def test_reopening_a_phase_does_not_decrease_progress():
    monitor = Monitor()
    monitor.start("build", 2)
    monitor.step("build", 0)
    assert monitor.share == 0.5
    monitor.finish("build")
    monitor.start("build", 2)
    assert monitor.share == 0.5


@pytest.mark.parametrize("steps", [0, -1])
def test_a_phase_without_steps_does_not_divide_by_zero(steps):
    monitor = Monitor()
    monitor.start("build", steps)
    monitor.step("build", 5)
    assert monitor.share == 1.0


def test_a_step_of_a_phase_that_never_opened_changes_nothing():
    monitor = Monitor()
    assert monitor.step("never opened", 3)
    monitor.finish("never opened")
    assert monitor.share == 0.0
