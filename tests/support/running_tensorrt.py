"""A stand-in for TensorRT on the host device: each version's names, engines that ONNX Runtime runs.

What a real library would refuse or leave undefined is refused here: names that the version lacks, a run before memory,
shape and addresses are set, too little memory, a profile that another context holds (TensorRT 8).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace

from host_device import HostStream
from host_engine import HostEngine
from recording_tensorrt import RecordingTensorRT, _Recorded

from leakrt.core.graphs import GraphSpec

MEMORY = 4096  # bytes that a context needs for each sample of its profile


def serialize(model: bytes, batches: tuple[int, ...], *, half: frozenset[str] = frozenset()) -> bytes:
    """What the stand-in deserialises: an ONNX graph of a bundle, with its profiles and its float16 tensors."""
    return json.dumps({"batches": batches, "half": sorted(half)}).encode() + b"\n" + model


class RunningTensorRT(RecordingTensorRT):
    """The module. `streams` finds a HostDevice's streams by their handles; `says` fails the call of that name."""

    def __init__(self, version: str, graphs: tuple[GraphSpec, ...], streams: Mapping[int, HostStream]) -> None:
        super().__init__(version)
        self.graphs, self.streams = graphs, streams
        self.says: dict[str, str] = {}
        self.deserialized = 0

    def __getattr__(self, name: str):
        if name == "Runtime":
            return lambda logger: _Runtime(self, logger)
        return super().__getattr__(name)

    def refuses(self, call: str, logger) -> bool:
        """Whether this call is to fail; the logger then has the reason."""
        if call in self.says:
            logger.log(1, self.says[call])
        return call in self.says


class _Runtime(_Recorded):
    def __init__(self, trt: RunningTensorRT, logger) -> None:
        super().__init__(trt, "Runtime")
        self.__dict__.update(log=logger)

    def deserialize_cuda_engine(self, data: bytes):
        if self.trt.refuses("deserialize_cuda_engine", self.log):
            return None
        head, model = data.split(b"\n", 1)
        self.trt.deserialized += 1
        return _Engine(self.trt, self.log, json.loads(head), model=model)


class _Engine(_Recorded):
    def __init__(self, trt: RunningTensorRT, logger, head: dict, *, model: bytes) -> None:
        super().__init__(trt, "ICudaEngine")
        import onnx

        given = onnx.load_model_from_string(model).graph.input[0].name
        graph = next(g for g in trt.graphs if g.input.name == given)
        tensors = (graph.input, *graph.outputs)
        self.__dict__.update(
            log=logger,
            graph=graph,
            batches=head["batches"],
            tensors={t.name: t for t in tensors},
            host=HostEngine(graph, model, tuple(head["batches"]), half=frozenset(head["half"])),
            taken=[],
            num_io_tensors=len(tensors),
            num_optimization_profiles=len(head["batches"]),
        )

    def __getattr__(self, name: str):
        sizes = {"device_memory_size", "device_memory_size_v2"}
        if name in sizes & self.names:
            return MEMORY * max(self.batches)
        return super().__getattr__(name)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str):
        return getattr(self.trt.DataType, "HALF" if self.host.types[name] == "float16" else "FLOAT")

    def get_tensor_mode(self, name: str):
        return getattr(self.trt.TensorIOMode, "INPUT" if name == self.graph.input.name else "OUTPUT")

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *self.tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(self.batches[profile], *self.tensors[name].shape)] * 3

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        self._check("get_device_memory_size_for_profile_v2")
        return MEMORY * self.batches[profile]

    def create_execution_context_without_device_memory(self):
        self._check("create_execution_context_without_device_memory")
        return self._context("create_execution_context_without_device_memory")

    def create_runtime_config(self):
        self._check("create_runtime_config")
        return _Recorded(self.trt, "IRuntimeConfig")

    def create_execution_context(self, asked):
        if isinstance(asked, _Recorded):
            ((asked,),) = asked.called("set_execution_context_allocation_strategy")
        assert asked.name == "USER_MANAGED"
        return self._context("create_execution_context")

    def _context(self, call: str):
        return None if self.trt.refuses(call, self.log) else _Context(self.trt, self)


class _Context(_Recorded):
    def __init__(self, trt: RunningTensorRT, engine: _Engine) -> None:
        super().__init__(trt, "IExecutionContext")
        self.__dict__.update(
            engine=engine, profile=None, memory=None, shape=None, addresses={}, shared=trt.__version__[0] != "8"
        )

    def __del__(self) -> None:
        if self.profile in self.engine.taken:
            self.engine.taken.remove(self.profile)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "device_memory":
            self.__dict__["memory"] = (value, MEMORY * max(self.engine.batches))

    def set_device_memory(self, address: int, size: int) -> None:
        self._check("set_device_memory")
        self.__dict__["memory"] = (address, size)

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        assert stream in self.trt.streams
        if not self.shared and profile in self.engine.taken:
            self.engine.log.log(1, f"profile {profile} is used by another context")
            return False
        self.engine.taken.append(profile)
        self.__dict__["profile"] = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        fits = list(shape) == list(self.engine.get_tensor_profile_shape(name, self.profile)[0])
        self.__dict__["shape"] = shape if fits else None
        return fits and not self.trt.refuses("set_input_shape", self.engine.log)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.tensors and address % 256 == 0

    def infer_shapes(self) -> list[str]:
        return [] if self.shape else [self.engine.graph.input.name]

    def execute_async_v3(self, stream: int) -> bool:
        if self.trt.refuses("execute_async_v3", self.engine.log):
            return False
        batch = self.engine.batches[self.profile]
        ready = self.shape and self.memory and self.memory[1] >= MEMORY * batch
        if not ready or set(self.addresses) != set(self.engine.tensors):
            self.engine.log.log(1, "a run before everything was set")
            return False
        self.engine.host.bind(batch, self.addresses, self.memory[0], stream=SimpleNamespace()).enqueue(
            self.trt.streams[stream]
        )
        return True
