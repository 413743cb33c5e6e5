"""The reference method is timed."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="the reference method runs on torch")


@pytest.mark.slow
def test_it_has_a_time_in_a_rehearsal(run_script):
    code, found = run_script("reference_times", "--rehearse")
    assert (code, found["failures"]) == (0, [])
    assert found["batch 1"]["wall_ms"]["p50"] > 0


def test_without_a_gpu_it_is_skipped(run_script):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert run_script("reference_times") == (0, {"skipped": "torch sees no GPU", "failures": []})
