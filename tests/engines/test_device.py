"""The driver is asked by its own C interface; a library with that interface stands in where there is no GPU."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

_DRIVER = r"""
#include <string.h>
int cuDriverGetVersion(int *v) { *v = 12040; return 0; }
int cuInit(unsigned f) { return START; }
int cuDeviceGetCount(int *n) { *n = 2; return 0; }
int cuDeviceGet(int *d, int i) { *d = i + 40; return i < 2 ? 0 : 101; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, d == 40 ? "First GPU" : "Second GPU", n); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? d - 34 : 60 + d; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = (void *)(long)d; return d == 41 ? 2 : 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { return 0; }
int cuCtxPushCurrent_v2(void *c) { return c ? 0 : 201; }
int cuCtxPopCurrent_v2(void **c) { return 0; }
"""


def ask(tmp_path, code: str, start: int = 0) -> str:
    """What `code` prints in a process whose driver is the stand-in."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("a C compiler on Linux makes the stand-in driver")
    source = tmp_path / "driver.c"
    source.write_text(_DRIVER.replace("START", str(start)))
    library = tmp_path / "libcuda.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    program = f"from leakrt.engines.device import *\nfrom leakrt.core.errors import LeakRTError\n{code}"
    import os

    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_two_gpus_are_told_apart(tmp_path):
    out = ask(tmp_path, "for d in list_devices(): print(d.name, d.capability, d.multiprocessors)")
    assert out.splitlines() == ["First GPU 8.6 100", "Second GPU 8.7 101"]


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    out = ask(tmp_path, "try: find_device(2)\nexcept LeakRTError as e: print(e)")
    assert out == "--device 2: no such GPU; this machine has 0: First GPU, 1: Second GPU\n"


def test_a_context_is_pushed_and_a_full_gpu_is_named(tmp_path):
    code = "with use_device(0): print('in')\ntry:\n  with use_device(1): pass\nexcept LeakRTError as e: print(e)"
    assert ask(tmp_path, code) == "in\nout of GPU memory while making a context on GPU 1; end what else uses the GPU\n"


@pytest.mark.parametrize(("code", "words"), [(100, "no NVIDIA GPU is visible"), (999, "CUDA error 999")])
def test_a_driver_that_does_not_start_says_why(tmp_path, code, words):
    assert words in ask(tmp_path, "print(find_driver().problem, list_devices())", code)


def test_without_a_driver_there_is_no_device(no_gpu):
    from leakrt.core.errors import BackendError
    from leakrt.engines.device import find_device, list_devices

    assert list_devices() == []
    with pytest.raises(BackendError, match=r"install the driver, or build for other machines with --flavour"):
        find_device(0)


def test_an_old_driver_is_told_with_the_cuda_it_knows(tmp_path):
    code = "from leakrt.engines.logger import explain\nprint(explain(['CUDA initialization failure with error: 35']))"
    assert "supports CUDA up to 12.4, which is older than this library's" in ask(tmp_path, code)
