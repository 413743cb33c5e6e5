"""The soak on a small bundle, and what it calls growth."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

MIB = 1 << 20


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_frames_of_many_sizes_keep_their_scores(run_script, made, backend):
    pytest.importorskip(backend, reason=f"needs {backend}")
    code, found = run_script("soak", "--rehearse", "--backend", backend, "--seconds", "20")
    assert (code, found["failures"]) == (0, [])
    assert (found["frames"], found["frames whose scores moved"]) == (4, 0)
    assert found["backend"]["backend"] == backend
    assert found["counters"]["images"] == 8


def test_where_no_backend_loads_that_is_told(run_script, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "bundle")
    code, found = run_script("soak", "--rehearse", "--backend", "tensorrt")
    assert code == 0
    assert found["skipped"]


def test_growth_is_the_rise_of_a_line_without_the_first_fifth(script):
    growth = script("soak").growth
    seconds = np.arange(100.0)
    steady = [200.0 * MIB] * 20 + [300.0 * MIB] * 80
    assert growth(steady, seconds) == pytest.approx(0, abs=1)
    assert growth([300 * MIB + MIB * s for s in seconds], seconds) == pytest.approx(79 * MIB)
    assert growth([None, 1.0, None, 2.0], range(4)) is None
