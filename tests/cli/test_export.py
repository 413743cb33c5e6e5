"""`leakrt export`."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxslim")
from runs import tiny_run


@pytest.fixture
def run(tmp_path):
    return shutil.copytree(tiny_run() / "run", tmp_path / "run")


def test_a_run_becomes_a_bundle_that_checks_images(leakrt, run, tmp_path):
    done = leakrt("export", run, "--out", tmp_path / "bundle")
    assert done.code == 0
    assert "60 of 60 verdicts the same" in done.out
    checked = leakrt("check", tmp_path / "bundle", tiny_run() / "data" / "test" / "smooth", "--json")
    assert checked.code == 0
    assert len(checked.lines) == 6


def test_json_is_one_object(leakrt, run, tmp_path):
    done = leakrt("export", run, "--out", tmp_path / "b.zip", "--json", "--false-alarm-rate", 0.1, "--no-exemplars")
    data = json.loads(done.out)
    assert data["decision"]["false_alarm_rate"] == 0.1
    assert data["parity"]["same_verdicts"] == 60
    assert "exemplars.npz" not in data["files"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--false-alarm-rate", "1.5"], 2, "false-alarm rate of 1.5"),
        (["--false-alarm-rate", "0.01"], 1, "at least 99 are needed"),
    ],
)
def test_impossible_rates_are_one_line(leakrt, run, tmp_path, arguments, code, message):
    done = leakrt("export", run, "--out", tmp_path / "bundle", *arguments)
    assert done.code == code
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert not (tmp_path / "bundle").exists()


def test_what_is_no_run_is_told(leakrt, tmp_path):
    done = leakrt("export", tmp_path, "--out", tmp_path / "bundle")
    assert done.code == 1
    assert "is not a training run" in done.err
