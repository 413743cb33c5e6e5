"""Every encoder of benchmarks/situations: latents of the bundle's graph are the file's, or the file is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from situations.encoders import attempt
from situations.refused_encoders import RANDOM, REFUSED
from situations.valid_encoders import VALID


@pytest.mark.parametrize("case", VALID, ids=lambda case: case.name)
def test_a_valid_file_is_accepted_and_gives_its_latents(case, tmp_path):
    assert attempt(case, tmp_path) == ""


@pytest.mark.parametrize("case", [*RANDOM, *REFUSED], ids=lambda case: case.name)
def test_another_file_is_refused_in_one_line_with_the_reason(case, tmp_path):
    said = attempt(case, tmp_path)
    assert case.refused in said
    assert "encoder.onnx" in said
    assert "\n" not in said
