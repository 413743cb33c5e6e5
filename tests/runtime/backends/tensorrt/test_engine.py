"""The Engine interface, for ONNX Runtime on the host and for TensorRTEngine on a fake library."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from host_device import HostDevice, view
from host_engine import HostEngine

from leakrt.core.graphs import vae_encoder_graph

BATCHES = (1, 3)


def host_engine(graph, model: bytes, device: HostDevice):
    return HostEngine(graph, model, BATCHES, half=frozenset({"image"}))


def tensorrt_engine(graph, model: bytes, device: HostDevice):
    pytest.importorskip("onnx", reason="the stand-in for TensorRT reads graphs with onnx")
    from running_tensorrt import RunningTensorRT, serialize

    from leakrt.engines.library.flavour import NO_DLA
    from leakrt.engines.library.tensorrt10 import TensorRT10
    from leakrt.runtime.backends.tensorrt.tensorrt_engine import TensorRTEngine

    version = "10.13.3.9"
    flavour = TensorRT10(RunningTensorRT(version, (graph,), device._streams), version)
    return TensorRTEngine(flavour, graph, serialize(model, BATCHES, half=frozenset({"image"})), dla_core=NO_DLA)


class Memory:
    """Allocate the tensors of a batch and an engine's workspace."""

    def __init__(self, device: HostDevice, engine, graph, batch: int) -> None:
        self.blocks = [device.allocate(engine.workspace(batch), "work")]
        self.work, self.at, self.arrays = self.blocks[0].address, {}, {}
        for tensor in (graph.input, *graph.outputs):
            shape, dtype = (batch, *tensor.shape), engine.types[tensor.name]
            self.blocks.append(device.allocate(int(np.prod(shape)) * np.dtype(dtype).itemsize, tensor.name))
            self.at[tensor.name] = self.blocks[-1].address
            self.arrays[tensor.name] = view(self.blocks[-1].address, shape, dtype)

    def free(self) -> None:
        for block in self.blocks:
            block.free()


@pytest.fixture(params=[host_engine, tensorrt_engine])
def opened(request, chain):
    """Yield device, graph and engine; the device must be empty at the end."""
    device, graph = chain.device(), vae_encoder_graph(chain.spec)
    engine = request.param(graph, chain.bundle.graph("vae_encoder", "fp32"), device)
    yield device, graph, engine
    engine.free()
    device.close()


def test_it_has_element_types_and_batch_sizes(opened):
    _, _, engine = opened
    assert dict(engine.types) == {"image": "float16", "latent": "float32"}
    assert tuple(engine.batches) == BATCHES
    assert 0 < engine.workspace(1) <= engine.workspace(3)


def test_bindings_share_a_workspace_and_use_their_own_tensors(opened):
    device, graph, engine = opened
    stream, memory = device.stream(), {batch: Memory(device, engine, graph, batch) for batch in BATCHES}
    bindings = {b: engine.bind(b, memory[b].at, memory[3].work, stream=stream) for b in BATCHES}
    images = np.random.default_rng(4).uniform(-1, 1, (3, *graph.input.shape)).astype(np.float16)
    memory[3].arrays["image"][...] = images
    memory[1].arrays["image"][...] = images[1:2]
    for batch in (1, 3, 1):
        bindings[batch].enqueue(stream)
    stream.synchronize()
    found = memory[3].arrays["latent"]
    np.testing.assert_allclose(memory[1].arrays["latent"][0], found[1], rtol=1e-5, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 1e-3
    for one in (*bindings.values(), *memory.values()):
        one.free()


def test_an_enqueued_run_waits_for_its_stream(opened):
    device, graph, engine = opened
    stream, memory, gate = device.stream(), Memory(device, engine, graph, 1), threading.Event()
    binding = engine.bind(1, memory.at, memory.work, stream=stream)
    stream.put(gate.wait)
    binding.enqueue(stream)
    memory.arrays["image"][...] = 0.25
    assert not memory.arrays["latent"].any()
    gate.set()
    stream.synchronize()
    assert memory.arrays["latent"].any()
    binding.free()
    memory.free()


def test_freeing_bindings_and_engines_is_idempotent(opened):
    device, graph, engine = opened
    memory = Memory(device, engine, graph, 1)
    binding = engine.bind(1, memory.at, memory.work, stream=device.stream())
    for one in (binding, binding, engine, engine, memory):
        one.free()
    assert device.held() == 0
