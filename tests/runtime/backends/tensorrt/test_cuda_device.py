"""CudaDevice with the real PyCUDA on a fake driver in host memory."""

from __future__ import annotations

import pytest
from host_driver import run_on_host_driver

_OPEN = """
import ctypes, sys
import numpy as np
from leakrt.runtime.backends.tensorrt import cuda_device
import host_cuda
cuda_device.load_kernels = lambda: host_cuda
driver = ctypes.CDLL("libcuda.so.1")
def left():
    found = (ctypes.c_size_t * 4)()
    driver.host_driver_left(found)
    return list(found)
"""
_CHAIN = """
from leakrt.core.bundle import Bundle
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.runtime.backends.tensorrt.runner import GpuRunner, RunnerOptions
from leakrt.runtime.backends.tensorrt.slot import Engines
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
from leakrt.runtime.pipeline import Pipeline
bundle = Bundle(sys.argv[1])
spec = bundle.spec
graphs = [bundle.graph(stem, "fp32") for stem in ("vae_encoder", "leak_encoder")]
def engines(device):
    vae, leak = vae_encoder_graph(spec), leak_encoder_graph(spec)
    half = frozenset()
    return Engines(host_cuda.DirectEngine(vae, graphs[0], (1, 2), half=half),
                   host_cuda.DirectEngine(leak, graphs[1], (spec.draws, 2 * spec.draws), half=half))
frames = [np.random.default_rng(i).integers(0, 256, (41 + i, 53 + 3 * i, 3), dtype=np.uint8) for i in range(5)]
with GpuRunner(spec, cuda_device.CudaDevice, engines, options=RunnerOptions(batches=(1, 2))) as runner:
    found = np.concatenate([r.outputs.average_draws(spec.draws).scores for r in runner.run(frames)])
    print(runner.ready.device, "; ".join(runner.ready.notes))
pipeline = Pipeline(spec, bundle.support("fp32"), OnnxRuntimeBackend(Variant(spec, "fp32", *graphs), 1), threads=1)
expected = pipeline.run([pipeline.prepare(frame) for frame in frames]).outputs.scores
print(np.abs(found - expected).max() < 1e-5, left())
"""


@pytest.mark.parametrize("integrated", [False, True], ids=["card", "shared memory"])
def test_the_chain_runs_and_frees_everything(tmp_path, tiny, integrated):
    done = run_on_host_driver(tmp_path, _OPEN + _CHAIN, tiny, integrated=integrated)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.strip().splitlines()
    assert first.startswith(
        "Host GPU batch 1 runs without a CUDA graph, which is slower (this driver captures nothing)"
    )
    assert second == "True [0, 0, 0, 0]"


def test_memory_is_zeroed_and_counted_and_running_out_names_the_request(tmp_path):
    code = """
device = cuda_device.CudaDevice(0)
memory = device.allocate(1000, "tests")
host = np.empty(1000, np.uint8)
device.copy_out(host, memory.address, device.stream())
print(memory.address % 256, host.any(), device.held())
driver.host_driver_limit(ctypes.c_size_t(3 << 20))
for allocate in (device.allocate, device.allocate_host):
    try:
        allocate(5 << 20, "much")
    except cuda_device.OutOfMemoryError as error:
        print(error)
memory.free()
memory.free()
print(device.held())
device.close()
print(left())
"""
    done = run_on_host_driver(tmp_path, _OPEN + code)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "0 False 1000",
        "out of GPU memory while allocating 5.0 MiB for much (3.0 MiB are free); use a smaller batch, or end "
        "other processes on the GPU",
        "out of GPU memory while allocating 5.0 MiB for much (page-locked, on the host); use a smaller batch, "
        "or end other processes on the GPU",
        "0",
        "[0, 0, 0, 0]",
    ]
