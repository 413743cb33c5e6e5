"""The chain is capturable as a CUDA graph, tested on the meta device, whose tensors have shapes but no values.

Uses a detector with Stable Diffusion's VAE at 256 px."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("onnx", reason="needs onnx")

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from leakrt.core.errors import ModelError
from leakrt.runtime.backends.torch.chain import Placement, TorchChain
from leakrt.runtime.backends.torch.group_norm import TORCH, torch_add, torch_norm, with_kernels

BENCHMARKS = Path(__file__).parents[4] / "benchmarks" / "gpu" / "networks.py"
META = torch.device("meta")


class Watch(TorchDispatchMode):
    """Records every operation that copies data from the host to the device.

    A 0-dimensional operand is not a copy: CUDA passes it as an argument of the kernel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.device.type == "cpu"]
        made = any(isinstance(t, torch.Tensor) and t.device == META for t in tree_leaves(result))
        if made and any(t.dim() or "copy" in str(function) for t in given):
            self.copies.append(str(function))
        return result


@pytest.fixture(scope="module")
def detector():
    """The spec and the networks."""
    if not BENCHMARKS.exists():
        pytest.skip("needs benchmarks/gpu")
    spec = importlib.util.spec_from_file_location("sd_networks", BENCHMARKS)
    module = importlib.util.module_from_spec(spec)
    sys.modules["sd_networks"] = module
    spec.loader.exec_module(module)
    model, described, _ = module.read()
    return model, {stem: module.draw(described[stem], 0) for stem in described}


def chain_of(detector, dtype=torch.float16, memory_format=torch.channels_last, kernels=TORCH):
    return TorchChain(
        *detector, Placement(device=META, dtype=dtype, memory_format=memory_format, kernels=kernels), threads=1
    )


def run(chain):
    """Run two images; returns the outputs and the recorded copies."""
    with torch.inference_mode(), Watch() as watch:
        return chain(torch.empty((2, 3, 256, 256), device=META)), watch.copies


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_a_run_copies_nothing_between_host_and_device(detector, dtype, memory_format):
    """Either would invalidate a capture."""
    outputs, copies = run(chain_of(detector, dtype, memory_format))
    assert copies == []
    assert [tuple(t.shape) for t in outputs] == [(2, 4, 32, 32), (2, 10), (2, 128), (2, 128), (2, 8)]
    assert {(t.device, t.dtype) for t in outputs} == {(META, torch.float32)}


def test_reading_a_number_from_the_device_is_detected(detector):
    chain = chain_of(detector)
    noise = chain._noise
    chain._noise = lambda latent: noise(latent * float(latent.sum()))
    with pytest.raises(RuntimeError, match="item"):
        run(chain)


def test_a_weight_on_the_host_is_detected(detector):
    chain = chain_of(detector)
    bias = next(name for name, tensor in chain._leak._weights.items() if tensor.dim() == 1)
    chain._leak._weights[bias] = torch.zeros(tuple(chain._leak._weights[bias].shape))
    try:
        _, copies = run(chain)
    except ModelError:  # some operators raise for mixed devices
        return
    assert copies


def test_every_group_norm_of_a_channels_last_chain_uses_the_kernels(detector):
    """Uses fake tensors, because tensors of the meta device do not keep the memory format."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    kernels = pytest.importorskip("leakrt.runtime.backends.torch.norm_kernels", reason="needs triton")
    taken = []

    def counted(x, *rest):
        taken.append(tuple(x.shape[1:]))
        return torch_norm(x, *rest)

    norms = with_kernels(kernels.takes, counted, torch_add)
    place = Placement(device=torch.device("cpu"), dtype=torch.float16, memory_format=torch.channels_last, kernels=norms)
    chain, fake = TorchChain(*detector, place, threads=1), FakeTensorMode(allow_non_fake_inputs=True)
    chain._vae._weights = {name: fake.from_tensor(tensor) for name, tensor in chain._vae._weights.items()}
    chain._vae(fake.from_tensor(torch.empty((2, 3, 256, 256), dtype=torch.float16)).contiguous(
        memory_format=torch.channels_last
    ))  # fmt: skip
    assert len(taken) == 22
    assert (512, 1024, 1) in taken  # the attention's
