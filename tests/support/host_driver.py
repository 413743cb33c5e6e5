"""An NVIDIA driver whose GPU is host memory, for PyCUDA itself to run on: each call is done at once.

It knows what runtime/backends/tensorrt/cuda_device.py asks of it, and fails the rest as a driver without a GPU does. A
block that is freed twice or never, a stream or context out of order, ends the process with a line that says so.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef unsigned long long ptr;
typedef struct stream { int flags; } stream;
static int contexts, pushed, streams;
static size_t blocks, held, limit = (size_t)1 << 40;
static void die(const char *why) { fprintf(stderr, "host driver: %s\n", why); _Exit(9); }
static void *take(size_t n) {
  if (held + n > limit) return 0;
  size_t *p = aligned_alloc(256, (n + 256 + 255) / 256 * 256);
  memset(p, 0xA5, n + 256);
  p[0] = n; p[1] = 0x600D; held += n; blocks++;
  return (char *)p + 256;
}
static int give(void *at) {
  size_t *p = (size_t *)((char *)at - 256);
  if (p[1] != 0x600D) die("memory freed that was not allocated, or freed twice");
  held -= p[0]; p[1] = 0; blocks--; free(p);
  return 0;
}
static void need(void) { if (!pushed) die("a call without a current context"); }
void host_driver_limit(size_t n) { limit = n; }
void host_driver_left(size_t *out) { out[0] = blocks; out[1] = streams; out[2] = contexts; out[3] = pushed; }
int cuInit(unsigned f) { return 0; }
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return i ? 101 : 0; }
int cuDeviceGetName(char *s, int n, int d) { strncpy(s, "Host GPU", n); return 0; }
int cuDeviceTotalMem_v2(size_t *s, int d) { *s = (size_t)1 << 33; return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? 9 : a == 18 ? INTEGRATED : 1; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { *c = (void *)0xC0; contexts++; return 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { if (--contexts < 0) die("a context released twice"); return 0; }
int cuCtxPushCurrent_v2(void *c) { pushed++; return 0; }
int cuCtxPopCurrent_v2(void **c) {
  if (--pushed < 0) die("a context popped that was not pushed");
  if (c) *c = (void *)0xC0;
  return 0;
}
int cuCtxGetDevice(int *d) { need(); *d = 0; return 0; }
int cuCtxGetCurrent(void **c) { *c = pushed ? (void *)0xC0 : 0; return 0; }
int cuCtxGetApiVersion(void *c, unsigned *v) { *v = 13000; return 0; }
int cuCtxSynchronize(void) { need(); return 0; }
int cuMemGetInfo_v2(size_t *f, size_t *t) { need(); *t = limit; *f = limit - held; return 0; }
int cuMemAlloc_v2(ptr *p, size_t n) { need(); *p = (ptr)take(n); return *p ? 0 : 2; }
int cuMemFree_v2(ptr p) { need(); return give((void *)p); }
int cuMemHostAlloc(void **p, size_t n, unsigned f) { need(); *p = take(n); return *p ? 0 : 2; }
int cuMemFreeHost(void *p) { need(); return give(p); }
int cuMemHostGetDevicePointer_v2(ptr *p, void *h, unsigned f) { *p = (ptr)h; return 0; }
int cuMemsetD8Async(ptr p, unsigned char v, size_t n, stream *s) { need(); memset((void *)p, v, n); return 0; }
int cuMemcpyHtoDAsync_v2(ptr to, void *from, size_t n, stream *s) { need(); memcpy((void *)to, from, n); return 0; }
int cuMemcpyDtoHAsync_v2(void *to, ptr from, size_t n, stream *s) { need(); memcpy(to, (void *)from, n); return 0; }
int cuStreamCreate(stream **s, unsigned f) { need(); if (!(f & 1)) die("a stream that waits for the default one");
  *s = malloc(sizeof **s); streams++; return 0; }
int cuStreamSynchronize(stream *s) { need(); return 0; }
int cuStreamDestroy_v2(stream *s) { need(); streams--; free(s); return 0; }
int cuGetErrorName(int e, const char **s) { *s = "an error"; return 0; }
int cuGetErrorString(int e, const char **s) { *s = e == 2 ? "out of memory" : "no such call here"; return 0; }
"""


def run_on_host_driver(
    folder: Path, code: str, *arguments: object, integrated: bool = False
) -> subprocess.CompletedProcess:
    """Run `code` in a process where PyCUDA finds this driver. Skips without PyCUDA or a C compiler."""
    found = importlib.util.find_spec("pycuda")
    compiler, names = shutil.which("cc") or shutil.which("gcc"), shutil.which("nm")
    if found is None or compiler is None or names is None or not sys.platform.startswith("linux"):
        pytest.skip("PyCUDA, and a C compiler on Linux that makes its driver, are needed")
    (bindings,) = Path(found.origin).parent.glob("_driver*.so")
    wanted = subprocess.run([names, "-D", "--undefined-only", bindings], capture_output=True, text=True, check=True)
    called = {line.split()[-1].split("@")[0] for line in wanted.stdout.splitlines()}
    rest = sorted(name for name in called if name.startswith("cu") and f"int {name}(" not in _DRIVER)
    source = folder / "driver.c"
    stubs = "".join(f"int {name}(void) {{ return 801; }}\n" for name in rest)
    source.write_text(_DRIVER.replace("INTEGRATED", str(int(integrated))) + stubs)
    command = [compiler, "-shared", "-fPIC", "-w", "-Wl,-soname,libcuda.so.1", "-o", folder / "libcuda.so.1", source]
    subprocess.run(command, check=True)
    paths = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": paths}
    given = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(given, capture_output=True, text=True, env=environment, timeout=120)
