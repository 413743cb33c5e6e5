"""CUDA graphs of the chain: they match plain runs for any batch and time their stages."""

from __future__ import annotations

import contextlib
import logging
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")

from leakrt.core.errors import BackendError
from leakrt.runtime.backends.base import FrameBackend, Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
from leakrt.runtime.backends.torch.backend import TorchFrameBackend, load_torch
from leakrt.runtime.backends.torch.chain import Placement, TorchChain
from leakrt.runtime.backends.torch.cuda_graphs import CudaGraphRunner, _Captured, out_of_memory, quickest
from leakrt.runtime.backends.torch.frames import FrameFeed
from leakrt.runtime.backends.torch.runner import DeviceResult, PlainRunner, pack
from leakrt.runtime.pipeline import Pipeline

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SIDE = 40


def images(batch):
    return np.random.default_rng(batch).uniform(-1, 1, (batch, 3, SIDE, SIDE)).astype(np.float32)


def frames(count):
    rng = np.random.default_rng(count)
    return [rng.integers(0, 256, (*rng.integers(30, 200, 2), 3), np.uint8) for _ in range(count)]


def prepared(given):
    from leakrt.core.preprocess import preprocess_reference

    return np.stack([preprocess_reference(frame, SIDE) for frame in given])


def on(device, bundle, networks, dtype=torch.float32, memory_format=torch.contiguous_format):
    return TorchChain(
        bundle.spec,
        networks,
        Placement(device=torch.device(device), dtype=dtype, memory_format=memory_format),
        threads=1,
    )


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 16])
def test_a_graph_matches_the_cpu_for_any_padding(bundle, networks, batch):
    runner = CudaGraphRunner(on("cuda", bundle, networks), SIDE, torch.device("cuda"), sizes=(1, 2, 4, 8, 16))
    wanted = PlainRunner(on("cpu", bundle, networks), torch.device("cpu")).run(images(batch))
    for _ in range(2):
        found = runner.run(images(batch))
        for a, b in zip(wanted.arrays, found.arrays, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4)
    assert all(spent > 0 for spent in found.latency_ms.values())


@pytest.mark.gpu
@needs_gpu
def test_graphs_of_several_sizes_do_not_overwrite_each_other(bundle, networks):
    runner = CudaGraphRunner(on("cuda", bundle, networks), SIDE, torch.device("cuda"), sizes=(1, 2, 4))
    first = {n: runner.run(images(n)).arrays for n in (1, 2, 4)}
    for n in (4, 1, 2, 4, 2):
        for a, b in zip(first[n], runner.run(images(n)).arrays, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_backend_on_a_gpu_is_near_the_cpu(bundle, networks, precision):
    graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
    backend = load_torch(Variant(bundle.spec, precision, *graphs), networks, 1)
    wanted = PlainRunner(on("cpu", bundle, networks), torch.device("cpu")).run(images(5)).arrays
    found = backend.chain(images(5))
    limit = 1e-3 if precision == "fp32" else 2e-2
    np.testing.assert_allclose(found.outputs.scores, wanted[1], atol=limit * np.abs(wanted[1]).max())
    described = backend.describe()
    assert described.device == torch.cuda.get_device_name()
    assert described.device_bytes > 0


@pytest.mark.gpu
@needs_gpu
def test_a_chain_that_waits_for_the_device_runs_without_a_graph(bundle, networks, caplog):
    chain = on("cuda", bundle, networks)
    noise = chain._noise
    chain._noise = lambda latent: noise(latent * float(latent.isfinite().all()))  # synchronizes in the capture
    runner = CudaGraphRunner(chain, SIDE, torch.device("cuda"), sizes=(1, 2))
    with caplog.at_level(logging.WARNING):
        found = runner.run(images(1))
    assert "no CUDA graph can be made" in caplog.text
    wanted = PlainRunner(on("cpu", bundle, networks), torch.device("cpu")).run(images(1))
    np.testing.assert_allclose(found.arrays[1], wanted.arrays[1], rtol=1e-3, atol=1e-4)


class Moment:
    """An event that completes when it is recorded."""

    def record(self, stream):
        self.seconds = time.perf_counter()

    def elapsed_time(self, other):
        return 1e3 * (other.seconds - self.seconds)


class Recorded:
    """A fake CUDA graph that runs the captured function on the same tensors at each replay."""

    def __init__(self, chain, image, packed, marks):
        self.chain, self.image, self.packed, self.marks = chain, image, packed, marks

    def replay(self):
        outputs = self.chain(self.image, lambda place: self.marks[place].record(None))
        self.packed.copy_(pack(outputs, len(self.image)))


class Stream:
    def synchronize(self):
        pass


@pytest.fixture
def replayed(bundle, networks, monkeypatch):
    """A runner whose graphs run on the CPU; only capture and streams are faked."""
    from leakrt import _grid

    chain = on("cpu", bundle, networks)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(CudaGraphRunner, "_place", lambda self: torch.inference_mode())
    device = torch.device("cpu")
    runner = CudaGraphRunner(chain, SIDE, device, sizes=(1, 2, 4), feed=FrameFeed(_grid, SIDE, device))

    def capture(size):
        with torch.inference_mode():
            image = torch.full((size, 3, SIDE, SIDE), torch.nan)
            outputs = chain(torch.zeros_like(image))
            packed = torch.full_like(pack(outputs, size), torch.nan)
            marks = tuple(Moment() for _ in range(4))
            shapes = tuple(tuple(o.shape) for o in outputs)
            host = torch.full_like(packed, torch.nan)
            others = torch.zeros_like(image), packed, host, host.numpy(), shapes, marks
            runner._captured[size] = _Captured(
                Recorded(chain, image, packed, marks), image, *others, Moment(), Moment(), Moment()
            )

    monkeypatch.setattr(runner, "_try_to_capture", capture)
    return runner


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_a_replay_of_images_returns_outputs_and_times(replayed, bundle, networks, batch):
    wanted = PlainRunner(on("cpu", bundle, networks), torch.device("cpu")).run(images(batch)).arrays
    found = replayed.run(images(batch))
    for a, b in zip(wanted, found.arrays, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)
    assert list(found.latency_ms) == ["copy_in", "vae", "noising", "leak", "copy_out"]
    assert all(spent >= 0 for spent in found.latency_ms.values())
    assert list(replayed._captured) == [{1: 1, 3: 4, 4: 4}[batch]]


@pytest.mark.parametrize("count", [1, 3, 4])
def test_a_replay_of_frames_returns_outputs_and_times(replayed, bundle, networks, count):
    wanted = PlainRunner(on("cpu", bundle, networks), torch.device("cpu")).run(prepared(frames(count))).arrays
    for _ in range(2):
        found = replayed.run_frames(frames(count))
        for a, b in zip(wanted, found.arrays, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4)
    assert list(found.latency_ms) == ["copy_in", "preprocess", "vae", "noising", "leak", "copy_out"]


def test_a_frame_backend_accepts_any_number_of_frames_until_it_is_closed(replayed, bundle):
    graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
    variant = Variant(bundle.spec, "fp32", *graphs)
    backend = TorchFrameBackend(variant, replayed, torch.device("cpu"), batch=4, threads=1)
    assert isinstance(backend, FrameBackend)
    given = frames(11)
    reference = Pipeline(bundle.spec, bundle.support("fp32"), OnnxRuntimeBackend(variant, 1), threads=1)
    wanted = reference.run([reference.prepare(frame) for frame in given])
    pipeline = Pipeline(bundle.spec, bundle.support("fp32"), backend, threads=1)
    result = pipeline.run([pipeline.prepare(frame) for frame in given])
    np.testing.assert_allclose(result.outputs.scores, wanted.outputs.scores, rtol=1e-3, atol=1e-4)
    assert list(result.latency_ms)[:6] == ["copy_in", "preprocess", "vae", "noising", "leak", "copy_out"]
    for _ in range(2):
        backend.close()
    for call in (lambda: backend.submit(given[:1]), lambda: backend.vae_encoder(images(1))):
        with pytest.raises(BackendError, match="the torch backend is closed; load the detector again"):
            call()


def test_out_of_memory_in_a_capture_is_found_in_the_chain_of_errors():
    def capture():
        try:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB.")
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    with pytest.raises(RuntimeError) as error:
        capture()
    assert "2.50 GiB" in str(out_of_memory(error.value))
    assert out_of_memory(RuntimeError("CUDA error: operation not permitted when stream is capturing")) is None


class Timed:
    """A runner with given stage times."""

    def __init__(self, milliseconds):
        self.milliseconds = milliseconds

    def run(self, image):
        return DeviceResult((), {"vae": self.milliseconds, "noising": 0.0, "leak": 0.0})

    def forget(self, size):
        pass


@pytest.mark.parametrize(("times", "taken"), [((2.0, 1.0), 1), ((1.0, 2.0), 0), ((1.0, 0.98), 0), ((1.0, 0.96), 1)])
def test_the_first_is_selected_unless_another_is_clearly_faster(times, taken):
    runners = [Timed(t) for t in times]
    assert quickest([lambda r=r: r for r in runners], images(1)) is runners[taken]


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("count", [1, 3, 16, 21])
def test_frames_on_a_gpu_match_preprocessed_images(bundle, networks, count):
    pytest.importorskip("leakrt._cuda", reason="LeakRT was built without a CUDA toolkit")
    graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
    backend = load_torch(Variant(bundle.spec, "fp32", *graphs), networks, 1)
    given = frames(count)
    wanted = PlainRunner(on("cpu", bundle, networks), torch.device("cpu")).run(prepared(given)).arrays
    for _ in range(2):
        found = backend.submit(given)()
        np.testing.assert_allclose(found.latent, wanted[0], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(found.outputs.scores, wanted[1], rtol=1e-3, atol=1e-3)
    assert list(found.latency_ms) == ["copy_in", "preprocess", "vae", "noising", "leak", "copy_out"]
    assert all(spent >= 0 for spent in found.latency_ms.values())


@pytest.mark.gpu
@needs_gpu
def test_frames_without_a_graph_give_the_same(bundle, networks):
    kernels = pytest.importorskip("leakrt._cuda", reason="LeakRT was built without a CUDA toolkit")
    device = torch.device("cuda")
    feed = FrameFeed(kernels, SIDE, device)
    runner = CudaGraphRunner(on("cuda", bundle, networks), SIDE, device, sizes=(1, 2, 4), feed=feed)
    wanted = runner.run_frames(frames(3)).arrays
    runner._plain = PlainRunner(runner.chain, device)
    for a, b in zip(wanted, runner.run_frames(frames(3)).arrays, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.gpu
@needs_gpu
def test_a_closed_backend_raises_and_frees_its_memory(bundle, networks):
    pytest.importorskip("leakrt._cuda", reason="LeakRT was built without a CUDA toolkit")
    graphs = bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32")
    backend = load_torch(Variant(bundle.spec, "fp32", *graphs), networks, 1)
    backend.submit(frames(16))()
    held = torch.cuda.memory_allocated()
    backend.close()
    backend.close()
    assert torch.cuda.memory_allocated() < held
    for call in (lambda: backend.submit(frames(1)), lambda: backend.vae_encoder(images(1))):
        with pytest.raises(BackendError, match="closed"):
            call()
