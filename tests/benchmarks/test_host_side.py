"""The host's share of a frame on a GPU, on a device that needs no time: the runtime around it is the real one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def host_side(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import host_side

    return host_side


def test_it_prints_and_writes_each_kind_of_call_and_what_the_process_grew_by(tiny, tmp_path):
    written = tmp_path / "figures.json"
    command = [sys.executable, BENCHMARKS / "host_side.py", tiny, "--rounds", "50", "--soak", "60", "--json", written]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(written.read_text())
    assert [0 < taken["p50"] <= taken["p99"] for taken in found["us"].values()] == [True] * 5
    assert found["soak"]["frames"] == 60
    assert 0 < found["laid"] <= 1.1  # its end is rounded up to 256 bytes
    assert "60 verdicts on frames of 7 sizes" in ran.stdout


def test_a_verdict_there_is_the_one_that_the_golden_image_gets_on_the_cpu(tiny, host_side):
    from leakrt import Detector
    from leakrt.core.bundle import Bundle

    bundle = Bundle(tiny)
    image = bundle.golden().image
    expected = Detector.load(tiny, backend="onnxruntime", precision="fp32").check(image)
    with host_side.idle_backend(bundle) as (backend, _):
        found = host_side.detector_on(bundle, backend).check(np.zeros_like(image))  # whatever is sent
    assert (found.verdict, found.label) == (expected.verdict, expected.label)
    assert found.scores == pytest.approx(expected.scores, abs=1e-4)
