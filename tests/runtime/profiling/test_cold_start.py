"""Timing a new process to its first verdict."""

from __future__ import annotations

from pathlib import Path

import pytest

from leakrt.core.errors import BackendError
from leakrt.runtime.profiling.cold_start import measure_cold_start, request_for


def test_every_part_is_timed_and_the_total_is_at_least_its_parts(tiny):
    found = measure_cold_start(request_for(tiny, "onnxruntime", "fp32", threads=1, image=None), 2)
    assert found.runs == 2
    assert min(found.import_ms, found.load_ms, found.first_check_ms) > 0
    assert found.load_to_verdict_ms >= max(found.load_ms, found.first_check_ms)
    assert found.process_ms > found.load_to_verdict_ms
    assert found.peak_bytes is None or found.peak_bytes > 10 << 20


def test_an_image_file_can_be_named(tiny, image_folder):
    image = image_folder(1) / "0000.jpg"
    assert measure_cold_start(request_for(tiny, "auto", "auto", threads=1, image=image), 1).first_check_ms > 0


def test_an_error_of_the_process_is_raised_in_one_line(tiny, tmp_path):
    with pytest.raises(BackendError, match=r"cold start measurement failed: no bundle at .*none"):
        measure_cold_start(request_for(tmp_path / "none", "auto", "auto", threads=1, image=None), 1)


def test_a_process_that_dies_raises_with_its_last_line(tiny, monkeypatch):
    monkeypatch.setenv("LEAKRT_SIMD", "abacus")
    with pytest.raises(BackendError, match="cold start measurement failed: ") as error:
        measure_cold_start(request_for(tiny, "auto", "auto", threads=1, image=None), 1)
    assert "\n" not in str(error.value)


def test_a_file_in_the_current_folder_can_not_shadow_a_library(tiny, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('taken over')")
    bundle = Path(tiny).resolve()
    monkeypatch.chdir(tmp_path)
    assert measure_cold_start(request_for(bundle, "auto", "auto", threads=1, image=None), 1).runs == 1
