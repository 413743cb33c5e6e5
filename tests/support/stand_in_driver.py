"""A library with the driver's C interface and two GPUs, for processes on machines that have none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_DRIVER = r"""
#include <stddef.h>
#include <string.h>
int cuDriverGetVersion(int *v) { *v = VERSION; return 0; }
int cuInit(unsigned f) { return START; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = i + 40; return i < 2 ? 0 : 101; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, d == 40 ? "First GPU" : "Second GPU", n); return 0; }
int cuDeviceTotalMem_v2(size_t *s, int d) { *s = (size_t)(d - 30) << 30; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) {
  *v = a == 75 ? 8 : a == 76 ? (d == 40 ? 6 : MINOR) : a == 18 ? d == 41 : 60 + d;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = (void *)(long)d; return d == 41 ? 2 : 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { return 0; }
int cuCtxPushCurrent_v2(void *c) { return c ? 0 : 201; }
int cuCtxPopCurrent_v2(void **c) { return 0; }
"""


def run_with_driver(
    folder: Path, code: str, *, start: int = 0, version: int = 12040, minor: int = 7
) -> subprocess.CompletedProcess:
    """Run `code` in a process whose driver is the stand-in, for CUDA `version`. `start`: what cuInit gives; `minor`: of
    the second GPU's compute capability 8."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("a C compiler on Linux makes the stand-in driver")
    source = folder / "driver.c"
    source.write_text(
        _DRIVER.replace("START", str(start)).replace("VERSION", str(version)).replace("MINOR", str(minor))
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "libcuda.so.1", source], check=True)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def leakrt_with_driver(folder: Path, *arguments: object, **driver: int) -> subprocess.CompletedProcess:
    """`leakrt ARGUMENTS`, likewise."""
    words = ["leakrt", *map(str, arguments)]
    code = f"import sys; sys.argv = {words!r}; from leakrt.cli.main import run; run()"
    return run_with_driver(folder, code, **driver)
