"""TensorRTEngine on fakes of each TensorRT version; the real library needs a GPU."""

from __future__ import annotations

import gc

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the stand-in for TensorRT reads graphs with onnx")
from host_chain import averaged
from recording_tensorrt import VERSIONS
from running_tensorrt import MEMORY, RunningTensorRT, serialize

from leakrt.core.errors import BackendError, EngineError, ModelError
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.engines.library.flavour import NO_DLA
from leakrt.engines.library.rtx import TensorRTRTX
from leakrt.engines.library.tensorrt8 import TensorRT8
from leakrt.engines.library.tensorrt10 import TensorRT10
from leakrt.runtime.backends.device_memory import OutOfMemoryError
from leakrt.runtime.backends.tensorrt.runner import GpuRunner, RunnerOptions
from leakrt.runtime.backends.tensorrt.slot import Engines
from leakrt.runtime.backends.tensorrt.tensorrt_engine import TensorRTEngine

DIALECTS = {"8": TensorRT8, "1": TensorRT10, "r": TensorRTRTX}
NEW = "10.13.3.9"


class Library:
    """A fake of one TensorRT version on a host device."""

    def __init__(self, chain, version: str) -> None:
        self.chain, self.device = chain, chain.device()
        self.graphs = vae_encoder_graph(chain.spec), leak_encoder_graph(chain.spec)
        self.trt = RunningTensorRT(version, self.graphs, self.device._streams)
        self.flavour = DIALECTS[version[0]](self.trt, version)
        self.blocks: list = []

    def stream_and_memory(self):
        """Return a stream and the address of memory that `close` frees."""
        self.blocks.append(self.device.allocate(1 << 20, "tests"))
        return self.device.stream(), self.blocks[-1].address

    def close(self) -> None:
        for block in self.blocks:
            block.free()

    def engine(self, which: int = 0, batches=(1, 4), half=frozenset()) -> TensorRTEngine:
        graph = self.graphs[which]
        data = serialize(self.chain.bundle.graph(graph.stem, "fp32"), tuple(batches), half=frozenset(half))
        return TensorRTEngine(self.flavour, graph, data, dla_core=NO_DLA)

    def engines(self, batches, half) -> Engines:
        rows = [batch * self.chain.spec.draws for batch in batches]
        return Engines(self.engine(0, batches, half & {"image", "latent"}), self.engine(1, rows, half & {"noised"}))


@pytest.fixture
def library(chain):
    made: list[Library] = []

    def make(version: str = NEW) -> Library:
        made.append(Library(chain, version))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("half", [frozenset(), frozenset({"image", "latent", "noised"})], ids=["float32", "float16"])
def test_the_chain_matches_the_cpu_with_every_version(library, chain, frames, version, half):
    its = library(version)
    options = RunnerOptions(batches=(1, 3), slots=2)
    with GpuRunner(chain.spec, lambda: its.device, lambda _: its.engines((1, 3), half), options=options) as runner:
        found = np.concatenate([averaged(result).scores for result in runner.run(frames(8))])
    expected = chain.reference(frames(8)).scores
    assert np.abs(found - expected).max() <= (2e-2 if half else 1e-5) * max(1.0, np.abs(expected).max())
    assert its.device.held() == 0


def test_an_engine_has_types_and_batch_sizes(library):
    engine = library().engine(0, (1, 4), {"image"})
    assert engine.types == {"image": "float16", "latent": "float32"}
    assert engine.batches == (1, 4)
    assert engine.workspace(4) == 4 * MEMORY


def test_tensorrt_8_reserves_memory_for_the_largest_profile(library):
    assert library("8.5.3.1").engine().workspace(1) == 4 * MEMORY


@pytest.mark.parametrize(("version", "engines"), [("8.5.3.1", 2), (NEW, 1)])
def test_two_contexts_of_one_profile_need_two_engines_only_on_tensorrt_8(library, version, engines):
    its = library(version)
    engine, (stream, memory) = its.engine(), its.stream_and_memory()
    addresses = dict.fromkeys(engine.types, memory)
    bindings = [engine.bind(4, addresses, memory, stream=stream) for _ in range(2)]
    assert its.trt.deserialized == engines
    for binding in bindings:
        binding.free()
    gc.collect()
    engine.bind(4, addresses, memory, stream=stream).free()  # a freed context's profile is reused
    assert its.trt.deserialized == engines


def test_a_batch_without_a_profile_is_refused_with_the_available_ones(library):
    with pytest.raises(BackendError, match=r"vae_encoder: no optimization profile for a batch of 3; available: 1, 4"):
        library().engine().workspace(3)


def test_the_engine_of_another_graph_is_refused(library, chain):
    its = library()
    data = serialize(chain.bundle.graph("leak_encoder", "fp32"), (1,))
    with pytest.raises(ModelError, match=r"vae_encoder: the inputs are \['noised'\]"):
        TensorRTEngine(its.flavour, its.graphs[0], data, dla_core=NO_DLA)


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        (
            "deserialize_cuda_engine",
            EngineError,
            r"vae_encoder: TensorRT 10.13.3.9 rejects the engine: no luck; rebuild the engine",
        ),
        (
            "create_execution_context",
            ModelError,
            r"vae_encoder: creating a context for a batch of 1 failed .*: no luck",
        ),
        ("set_input_shape", ModelError, r"a batch of 1 was rejected .*: no luck"),
        ("execute_async_v3", ModelError, r"a run was rejected by TensorRT 10.13.3.9: no luck"),
    ],
)
def test_errors_of_the_library_are_one_line_with_the_reason(library, call, kind, said):
    its = library()
    its.trt.says[call] = "no\nluck"
    with pytest.raises(kind, match=said) as error:
        run_once(its)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("call", ["deserialize_cuda_engine", "create_execution_context", "execute_async_v3"])
@pytest.mark.parametrize(
    ("text", "amount"), [("Requested size was 3145728 bytes", "allocating 3.0 MiB"), ("", "allocating for")]
)
def test_out_of_memory_in_the_library_is_an_out_of_memory_error(library, call, text, amount):
    its = library()
    its.trt.says[call] = f"OutOfMemory {text}"
    with pytest.raises(OutOfMemoryError, match=amount):
        run_once(its)


def test_an_error_of_one_call_is_not_reported_by_the_next(library):
    its = library()
    engine = its.engine()
    for said in ("first", "second"):
        its.trt.says["create_execution_context"] = said
        with pytest.raises(ModelError, match=f": {said}$"):
            engine.bind(1, {}, 0, stream=its.device.stream())


def run_once(its: Library) -> None:
    engine, (stream, memory) = its.engine(), its.stream_and_memory()
    binding = engine.bind(1, dict.fromkeys(engine.types, memory), memory, stream=stream)
    binding.enqueue(stream)
