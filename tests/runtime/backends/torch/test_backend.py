"""The torch backend's chain: results, stage times, and behaviour when memory runs out."""

from __future__ import annotations

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")

from leakrt.core.errors import BackendError
from leakrt.runtime.backends.base import ChainBackend, Variant
from leakrt.runtime.backends.torch.backend import TorchBackend, load_torch
from leakrt.runtime.backends.torch.chain import Placement, TorchChain
from leakrt.runtime.backends.torch.runner import PlainRunner
from leakrt.runtime.pipeline import Pipeline

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def variant(bundle):
    return Variant(bundle.spec, "fp32", bundle.graph("vae_encoder", "fp32"), bundle.graph("leak_encoder", "fp32"))


@pytest.fixture(scope="module")
def chain(bundle, networks):
    return TorchChain(bundle.spec, networks, Placement(device=CPU, dtype=torch.float32), threads=1)


@pytest.fixture(scope="module")
def backend(variant, networks):
    if torch.cuda.is_available():
        pytest.skip("tests of the CPU; a GPU is here")
    return load_torch(variant, networks, 1)


def images(batch):
    return np.random.default_rng(batch).uniform(-1, 1, (batch, 3, 40, 40)).astype(np.float32)


class Small:
    """A runner with real results that runs out of memory above a number of images."""

    def __init__(self, chain, most):
        self.chain, self.most, self.plain, self.tried, self.forgotten = chain, most, PlainRunner(chain, CPU), [], []

    def run(self, batch):
        self.tried.append(len(batch))
        if len(batch) > self.most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total ...")
        return self.plain.run(batch)

    def forget(self, size):
        self.forgotten.append(size)


def test_the_chain_matches_its_parts(bundle, backend):
    """Compares with the pipeline, which uses the native core's noise for backends without a chain."""
    batch = images(3)

    class Parts:
        name, precision, batch = backend.name, backend.precision, 1
        vae_encoder, leak_encoder, describe = backend.vae_encoder, backend.leak_encoder, backend.describe

    assert isinstance(backend, ChainBackend)
    assert not isinstance(Parts(), ChainBackend)
    whole, parts = (
        Pipeline(bundle.spec, bundle.support("fp32"), b, threads=1).run(list(batch)) for b in (backend, Parts())
    )
    for name in ("scores", "embedding", "gates", "step_weights"):
        np.testing.assert_allclose(getattr(whole.outputs, name), getattr(parts.outputs, name), atol=1e-6)
    np.testing.assert_allclose(whole.log_density, parts.log_density, atol=1e-6)
    assert list(whole.latency_ms) == ["vae", "noising", "leak", "copy", "decision"]
    assert list(parts.latency_ms) == ["vae", "noising", "leak", "decision"]


def test_stage_times_add_up_to_at_most_the_total(backend):
    import time

    begin = time.perf_counter()
    result = backend.chain(images(4))
    wall = 1e3 * (time.perf_counter() - begin)
    assert list(result.latency_ms) == ["vae", "noising", "leak"]
    assert 0 < sum(result.latency_ms.values()) <= wall
    assert all(spent > 0 for spent in result.latency_ms.values())


def test_a_batch_that_does_not_fit_is_halved_logged_and_stays_halved(variant, chain, caplog):
    runner = Small(chain, 3)
    backend = TorchBackend(variant, runner, CPU, batch=16, threads=1)
    batch = images(13)
    with caplog.at_level(logging.WARNING):
        found = backend.chain(batch)
    assert runner.tried[:3] == [13, 6, 3]
    assert (backend.batch, runner.forgotten) == (3, [13, 6])
    assert "2.50 GiB was wanted for a batch of 13; going on with 6" in caplog.text
    wanted = TorchBackend(variant, PlainRunner(chain, CPU), CPU, batch=16, threads=1).chain(batch)
    np.testing.assert_allclose(found.outputs.scores, wanted.outputs.scores, atol=1e-6)
    np.testing.assert_allclose(found.latent, wanted.latent, atol=1e-6)
    runner.tried.clear()
    backend.chain(batch)
    assert runner.tried == [3, 3, 3, 3, 1]


def test_if_one_image_does_not_fit_the_error_names_the_request(variant, chain):
    backend = TorchBackend(variant, Small(chain, 0), CPU, batch=16, threads=1)
    with pytest.raises(
        BackendError, match=r"out of memory: 2\.50 GiB was wanted for one image; end what else"
    ) as error:
        backend.chain(images(2))
    assert "\n" not in str(error.value)


def test_fp16_without_a_gpu_is_refused(variant, networks, backend):
    from dataclasses import replace

    with pytest.raises(BackendError, match="torch runs fp16 on a GPU only, and sees none here; take fp32"):
        load_torch(replace(variant, precision="fp16"), networks, 1)


def test_a_half_chain_is_near_the_float_one(bundle, networks, chain):
    half = TorchChain(
        bundle.spec, networks, Placement(device=CPU, dtype=torch.float16, memory_format=torch.channels_last), threads=1
    )
    wanted, found = (PlainRunner(c, CPU).run(images(3)) for c in (chain, half))
    for a, b in zip(wanted.arrays, found.arrays, strict=True):
        assert b.dtype == np.float32
        error = np.abs(a - b).max() / max(1.0, np.abs(a).max())
        assert 0 < error < 5e-3


def test_weights_with_other_names_are_refused_at_load(bundle, networks):
    from dataclasses import replace

    from leakrt.core.errors import ModelError

    renamed = replace(networks["vae_encoder"], outputs=(networks["vae_encoder"].nodes[0].outputs[0],))
    with pytest.raises(ModelError, match=r"^vae_encoder: the outputs are .* expected latent"):
        TorchChain(
            bundle.spec, {**networks, "vae_encoder": renamed}, Placement(device=CPU, dtype=torch.float32), threads=1
        )
