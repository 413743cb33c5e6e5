"""Every kernel is timed in a rehearsal, on its host twin."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch holds the memory")


def test_every_kernel_has_a_time_and_its_bytes(run_script):
    code, found = run_script("kernel_times", "--rehearse")
    assert (code, found["failures"]) == (0, [])
    for name in (
        "noise from a bank, float16 to float16, batch 1",
        "fresh noise, float32 to float32, batch 2",
        "normals, 2 draws",
        "preprocess 1920 x 1080, batch 1",
        "log-density, 100 points, batch 16",
    ):
        assert found[name]["us"]["p50"] > 0
        assert found[name]["bytes"] > 0
        assert found[name]["share_of_copy"] > 0
    assert found["noise from a bank, float16 to float16, batch 1, warm"]["us"]["n"] == 5
    assert found["fp16 tflops"] > 0


def test_a_kernel_that_fails_is_told_and_the_others_are_timed(script, run_in):
    module = script("kernel_times")

    def broken(bench):
        raise RuntimeError("of some kind")

    code, found = run_in(module, "--rehearse", normals=broken)
    assert (code, found["failures"]) == (1, ["normals: RuntimeError: of some kind"])
    assert found["log-density, 100 points, batch 1"]["us"]["p50"] > 0
