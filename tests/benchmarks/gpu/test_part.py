"""What a part keeps on disk, and the percentiles it states."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest


@pytest.fixture
def part(script, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["part", "--out", str(tmp_path / "part.json"), "--work", str(tmp_path)])
    return script("part").Part("A part.")


def on_disk(part):
    return json.loads(part.options.out.read_text())


def test_results_are_whole_on_disk_after_each_of_them(part):
    part.set("first", {"a": np.float32(1.5), "b": np.arange(3), "c": float("nan"), "d": (1, None)})
    assert on_disk(part) == {"first": {"a": 1.5, "b": [0, 1, 2], "c": "nan", "d": [1, None]}, "failures": []}
    part.set("second", True)
    assert list(on_disk(part)) == ["first", "second", "failures"]
    assert [path.name for path in part.work.iterdir()] == ["part.json"]


def test_a_failure_inside_does_not_end_the_part_and_shows_in_its_exit_code(part):
    with part.trying("a sum"):
        raise ZeroDivisionError("of\nsomething")
    part.set("after", 1)
    with pytest.raises(SystemExit) as stop:
        part.end()
    assert stop.value.code == 1
    assert on_disk(part)["failures"] == ["a sum: ZeroDivisionError: of something"]
    assert on_disk(part)["after"] == 1


def test_a_part_that_can_do_nothing_says_why_and_is_no_failure(part):
    with pytest.raises(SystemExit) as stop:
        part.skip_for("no GPU")
    assert (stop.value.code, on_disk(part)["skipped"]) == (0, "no GPU")
    part.skip_for("")


def test_percentiles_are_values_of_the_sample(script):
    summary = script("part").summary
    found = summary([float(n) for n in range(100, 0, -1)])
    assert found == {"p50": 50.0, "p90": 90.0, "p99": 99.0, "min": 1.0, "max": 100.0, "n": 100}
    assert summary([7.0])["p99"] == 7.0
    assert summary([]) == {}


def test_a_machine_without_a_gpu_has_no_clocks(script, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert script("part").clocks() == {}


def test_fields_that_a_driver_does_not_know_are_left_out(script, monkeypatch, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        '#!/bin/sh\ncase "$1" in *odd*) exit 2;; *clocks.sm*) echo "1980 MHz";; *name*) echo "A GPU";; esac\n'
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert script("part").gpu_state(("name", "odd", "clocks.sm")) == {"name": "A GPU", "clocks.sm": "1980 MHz"}
