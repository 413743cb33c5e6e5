"""The chain on a GPU: graphs give what plain runs give, for any batch, and time their stages."""

from __future__ import annotations

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")

from leakrt.core.bundle import Bundle
from leakrt.core.weights import from_bytes
from leakrt.export.weights import weights_file
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.networks.backend import load_torch
from leakrt.runtime.networks.chain import Placement, TorchChain
from leakrt.runtime.networks.cuda_graphs import GraphRunner, quickest
from leakrt.runtime.networks.runner import DeviceResult, PlainRunner

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
SIDE = 40


@pytest.fixture(scope="module")
def bundle(tiny):
    return Bundle(tiny)


@pytest.fixture(scope="module")
def networks(bundle):
    (data,) = weights_file({name: bundle.read(name) for name in bundle.hashes}).values()
    return from_bytes(data)


def images(batch):
    return np.random.default_rng(batch).uniform(-1, 1, (batch, 3, SIDE, SIDE)).astype(np.float32)


def on(device, bundle, networks, dtype=torch.float32, memory_format=torch.contiguous_format):
    return TorchChain(bundle.spec, networks, Placement(torch.device(device), dtype, memory_format), 1)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("batch", [1, 2, 3, 4, 7, 16])
def test_a_graph_gives_what_the_cpu_gives_whatever_its_padding(bundle, networks, batch):
    runner = GraphRunner(on("cuda", bundle, networks), SIDE, torch.device("cuda"), (1, 2, 4, 8, 16))
    wanted = PlainRunner(on("cpu", bundle, networks), torch.device("cpu")).run(images(batch))
    for _ in range(2):
        found = runner.run(images(batch))
        for a, b in zip(wanted.arrays, found.arrays, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4)
    assert all(spent > 0 for spent in found.latency_ms.values())


@pytest.mark.gpu
@needs_gpu
def test_graphs_of_several_sizes_do_not_write_over_one_another(bundle, networks):
    runner = GraphRunner(on("cuda", bundle, networks), SIDE, torch.device("cuda"), (1, 2, 4))
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
    chain._noise = lambda latent: noise(latent * float(latent.isfinite().all()))  # reads a number in the capture
    runner = GraphRunner(chain, SIDE, torch.device("cuda"), (1, 2))
    with caplog.at_level(logging.WARNING):
        found = runner.run(images(1))
    assert "no CUDA graph can be made" in caplog.text
    wanted = PlainRunner(on("cpu", bundle, networks), torch.device("cpu")).run(images(1))
    np.testing.assert_allclose(found.arrays[1], wanted.arrays[1], rtol=1e-3, atol=1e-4)


class Timed:
    """A runner whose stages take stated times."""

    def __init__(self, milliseconds):
        self.milliseconds = milliseconds

    def run(self, image):
        return DeviceResult((), {"vae": self.milliseconds, "noising": 0.0, "leak": 0.0})

    def forget(self, size):
        pass


@pytest.mark.parametrize(("times", "taken"), [((2.0, 1.0), 1), ((1.0, 2.0), 0), ((1.0, 0.98), 0), ((1.0, 0.96), 1)])
def test_the_first_is_kept_unless_another_is_clearly_faster(times, taken):
    runners = [Timed(t) for t in times]
    assert quickest([lambda r=r: r for r in runners], images(1)) is runners[taken]
