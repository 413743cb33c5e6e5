"""ONNX Runtime in TensorRT's place: types at the boundary, addresses, and when it runs."""

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
    """The VAE encoder bound for a batch on memory of a host device."""

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
def test_it_gives_what_onnx_runtime_gives_in_the_types_that_were_asked_for(bound, chain, half):
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


def test_it_runs_when_the_stream_gets_there_and_reads_what_lies_there_then(bound):
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


def test_every_run_fills_its_workspace_with_rubbish(bound):
    one = bound(2)
    work = one.memory["work"]
    assert work.size == one.engine.workspace(2) > one.engine.workspace(1) > 0
    one.binding.enqueue(one.stream)
    one.stream.synchronize()
    assert (work.array == 0xA5).all()


def test_batch_sizes_are_those_it_was_made_for_and_its_tensors_the_graphs(chain):
    model = chain.bundle.graph("leak_encoder", "fp32")
    engine = HostEngine(leak_encoder_graph(chain.spec), model, (2, 10), half=frozenset({"noised"}))
    assert engine.batches == (2, 10)
    assert engine.types == {
        "noised": "float16", "scores": "float32", "embedding": "float32", "gates": "float32", "step_weights": "float32",
    }  # fmt: skip
    engine.free()


def test_a_graph_that_can_not_be_loaded_is_one_line(chain):
    with pytest.raises(ModelError, match="vae_encoder") as error:
        HostEngine(vae_encoder_graph(chain.spec), b"no graph", (1,), half=frozenset())
    assert "\n" not in str(error.value)
