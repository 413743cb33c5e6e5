"""What is read of the compiler's report, and a kernel that would be refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "benchmarks" / "gpu"
NVCC = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


@pytest.mark.skipif(NVCC is None, reason="needs nvcc")
def test_every_kernel_compiles_without_a_warning_or_a_spill(tmp_path):
    out = tmp_path / "report.json"
    command = [sys.executable, str(FOLDER / "compile_report.py"), "--arch", "9.0", "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    kernels = json.loads(out.read_text())["kernels"]
    names = [kernel["name"] for kernel in kernels]
    assert len(names) == len(set(names))  # every symbol has a name of its own
    for part in ("normals", "noise bank float16 -> float16, whole units", "preprocess to float16", "log-density"):
        assert part in names
    assert {(kernel["capability"], kernel["spills"], kernel["stack"]) for kernel in kernels} == {("9.0", 0, 0)}


def test_accesses_are_counted_by_their_width(script):
    count = script("compile_report").count
    body = "LDG.E.128.CONSTANT R4, [R2] ; LDG.E R1, [R2] ; STG.E.U16 [R2], R1 ; LDL R1, [R1] ; LDG.E.128 R8, [R2]"
    assert count(body) == {"load 16": 2, "load 4": 1, "spilled load 4": 1, "store 2": 1}


@pytest.mark.parametrize(
    ("name", "spills", "accesses", "words"),
    [
        ("noise bank float16 -> float16, whole units", 0, {"load 16": 4, "store 16": 2}, ""),
        ("noise bank float16 -> float16, whole units", 8, {}, "8 bytes of spills"),
        ("noise bank float16 -> float16, whole units", 0, {"store 2": 1}, "accesses of other than 16 bytes"),
        ("noise bank float16 -> float16, whole units", 0, {"load 4": 1}, "accesses of other than 16 bytes"),
        ("noise fresh float16 -> float16, whole units", 0, {"load 4": 1}, ""),
        ("noise bank float16 -> float32, whole units", 0, {"load 8": 1}, ""),
        ("noise bank float16 -> float16, any units", 0, {"store 2": 1}, ""),
    ],
)
def test_what_is_wanting_is_named(script, name, spills, accesses, words):
    kernel = script("compile_report").Kernel("9.0", name, 40, 0, spills, accesses)
    assert kernel.wanting.startswith(words)
    assert bool(kernel.wanting) == bool(words)


def test_without_a_compiler_that_is_told(script, monkeypatch, capsys):
    module = script("compile_report")
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["compile_report.py"])
    assert module.main() == 1
    assert capsys.readouterr().err.startswith("no nvcc here")
