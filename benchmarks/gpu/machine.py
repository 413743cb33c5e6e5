"""The machine as it was found: GPU, driver, clocks, toolkit, packages. Nothing of it is changed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from part import Part, gpu_state

_PACKAGES = (
    "torch", "triton", "onnx", "onnxruntime", "onnxruntime-gpu", "numpy", "opencv-python-headless", "safetensors",
    "typer", "rich", "pytest", "nanobind", "scikit-build-core", "cmake", "ninja", "filelock", "pillow", "diffusers",
    "pycuda", "tensorrt", "tensorrt-rtx", "polygraphy", "cryptography", "hypothesis",
)  # fmt: skip


def main() -> None:
    """Look and write."""
    part = Part(__doc__)
    part.set("gpu", gpu_state())
    part.set("smi", _output("nvidia-smi"))
    part.set("nvcc", _output("nvcc", "--version").splitlines()[-1:] or _nvcc_elsewhere())
    part.set("python", {"version": platform.python_version(), "implementation": sys.implementation.name})
    part.set("packages", {name: _version(name) for name in _PACKAGES})
    part.set("cpu", {"name": _cpu(), "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]})
    part.set("memory_kib", _first(r"MemTotal:\s+(\d+)", "/proc/meminfo"))
    part.set("kernel", platform.release())
    part.set("commit", _output("git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD").strip())
    part.end()


def _output(*command: str) -> str:
    """What a command prints; empty where it is not there."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)


def _nvcc_elsewhere() -> list[str]:
    return _output("/usr/local/cuda/bin/nvcc", "--version").splitlines()[-1:]


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    return _first(r"model name\s*:\s*(.+)", "/proc/cpuinfo") or platform.machine()


def _first(pattern: str, path: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text())
    except OSError:
        return ""
    return found.group(1).strip() if found else ""


if __name__ == "__main__":
    main()
