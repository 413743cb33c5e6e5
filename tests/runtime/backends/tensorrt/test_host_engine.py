"""The fake engine on ONNX Runtime: tensor types, addresses and stream order."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from host_device import view
from host_engine import HostEngine

from leakrt.core.errors import ModelError
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.runtime.backends.onnxruntime import session


class Bound:
    """Bind the VAE encoder for a batch on memory of a host device."""

    def __init__(self, chain, batch: int, half: frozenset[str]) -> None:
        self.graph, model = vae_encoder_graph(chain.spec), chain.bundle.graph("vae_encoder", "fp32")
        self.engine = HostEngine(self.graph, model, (1, batch), half=half)
        self.device = chain.device()
        self.stream = self.device.stream()
        self.memory, self.arrays = {}, {}
        for tensor in (self.graph.input, *self.graph.outputs):
            shape, dtype = (batch, *tensor.shape), self.engine.types[tensor.name]
            size = int(np.prod(shape)) * np.dtype(dtype).itemsize
            self.memory[tensor.name] = self.device.allocate(size, tensor.name)
            self.arrays[tensor.name] = view(self.memory[tensor.name].address, shape, dtype)
        self.memory["work"] = self.device.allocate(self.engine.workspace(batch), "work")
        at = {name: memory.address for name, memory in self.memory.items()}
        self.binding = self.engine.bind(batch, at, at["work"], stream=self.stream)

    def close(self) -> None:
        self.binding.free()
        self.engine.free()
        for memory in self.memory.values():
            memory.free()
        self.device.close()


@pytest.fixture
def bound(chain):
    made: list[Bound] = []

    def make(batch: int, half=frozenset()) -> Bound:
        made.append(Bound(chain, batch, half))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("half", [frozenset(), frozenset({"image"}), frozenset({"image", "latent"})])
def test_it_matches_onnx_runtime_in_the_requested_types(bound, chain, half):
    one = bound(3, half)
    assert one.engine.types == {name: "float16" if name in half else "float32" for name in ("image", "latent")}
    size = chain.spec.image_size
    images = np.random.default_rng(2).uniform(-1, 1, (3, 3, size, size)).astype(one.arrays["image"].dtype)
    one.arrays["image"][...] = images
    one.binding.enqueue(one.stream)
    one.stream.synchronize()
    model = session("vae_encoder", chain.bundle.graph("vae_encoder", "fp32"), 1)
    (wanted,) = model.run(["latent"], {"image": images.astype(np.float32)})
    np.testing.assert_array_equal(one.arrays["latent"], wanted.astype(one.arrays["latent"].dtype))


def test_it_runs_in_stream_order_and_reads_the_memory_at_that_time(bound):
    one, gate = bound(1), threading.Event()
    one.stream.put(gate.wait)
    one.binding.enqueue(one.stream)
    one.arrays["image"][...] = 0.5
    assert not one.arrays["latent"].any()
    gate.set()
    one.stream.synchronize()
    first = one.arrays["latent"].copy()
    assert first.any()
    one.arrays["image"][...] = -0.5
    one.binding.enqueue(one.stream)
    one.stream.synchronize()
    assert (one.arrays["latent"] != first).any()


def test_every_run_fills_its_workspace_with_garbage(bound):
    one = bound(2)
    work = one.memory["work"]
    assert work.size == one.engine.workspace(2) > one.engine.workspace(1) > 0
    one.binding.enqueue(one.stream)
    one.stream.synchronize()
    assert (work.array == 0xA5).all()


def test_it_accepts_only_its_batch_sizes_and_the_graphs_tensors(chain):
    model = chain.bundle.graph("leak_encoder", "fp32")
    engine = HostEngine(leak_encoder_graph(chain.spec), model, (2, 10), half=frozenset({"noised"}))
    assert engine.batches == (2, 10)
    assert engine.types == {
        "noised": "float16", "scores": "float32", "embedding": "float32", "gates": "float32", "step_weights": "float32",
    }  # fmt: skip
    engine.free()


def test_loading_a_broken_graph_raises_a_one_line_error(chain):
    with pytest.raises(ModelError, match="vae_encoder") as error:
        HostEngine(vae_encoder_graph(chain.spec), b"no graph", (1,), half=frozenset())
    assert "\n" not in str(error.value)
