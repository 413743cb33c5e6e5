"""The `tensorrt` backend without a GPU: everything of it is real but the driver, TensorRT itself and the device.

Engines lie in a real cache; a stand-in for TensorRT runs them with ONNX Runtime on the host device, with LeakRT's
kernels. `averaged` needs neither onnx nor a cache.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from leakrt.core.outputs import LeakOutputs
from leakrt.runtime.backends.base import ChainResult

HALF = frozenset({"image", "latent", "noised"})
VERSION = "10.13.3.9"


def averaged(result: ChainResult) -> LeakOutputs:
    """The outputs of a chain, averaged over draws."""
    return result.outputs.average_draws(len(result.outputs.scores) // len(result.latent))


class HostGpus:
    """GPUs made of host memory, and the engines built for them. Made by the fixture `gpus`."""

    def __init__(self, monkeypatch, count: int, version: str, *, backend: str = "tensorrt") -> None:
        from engine_records import GPU
        from running_tensorrt import RunningTensorRT

        from leakrt.engines.library import device, installed
        from leakrt.engines.library.rtx import TensorRTRTX
        from leakrt.engines.library.tensorrt10 import TensorRT10
        from leakrt.runtime.backends import registry
        from leakrt.runtime.backends.base import Availability, BackendKind
        from leakrt.runtime.backends.tensorrt import cuda_device

        self.found = [replace(GPU, name=f"GPU {letter}") for letter in "ABC"[:count]]
        self.opened: list[tuple[int, object]] = []  # number and HostDevice
        self.options: dict = {}  # of the HostDevices
        self.version, self.flavour = version, backend.replace("_", "-")
        self.trt = RunningTensorRT(version, (), _Streams(self))
        real = registry.kind
        there = Availability(backend=backend, runs=True, version=version, reason="", install="")
        kinds = {backend: BackendKind(backend, lambda: there, real(backend).load)}
        dialects = {"tensorrt": TensorRT10, "tensorrt-rtx": TensorRTRTX}
        monkeypatch.setattr(registry, "kind", lambda name: kinds.get(name) or real(name))
        monkeypatch.setattr(device, "list_devices", lambda: self.found)
        monkeypatch.setattr(device, "find_driver", lambda: device.Driver(library=object(), problem="", cuda="13.0"))
        monkeypatch.setattr(installed, "load_flavour", lambda name: dialects[name](self.trt, version))
        monkeypatch.setattr(cuda_device, "CudaDevice", self._open)

    def _open(self, number: int):
        from host_device import HostDevice

        made = HostDevice(**self.options)
        self.opened.append((number, made))
        return made

    def build(self, bundle: Path, precision: str, batches=(1, 4), graphs=None, **changed) -> None:
        """What `leakrt build` leaves; `graphs` replaces some by other ONNX, `changed` fields of the keys."""
        from engine_records import KEY, record_of
        from running_tensorrt import serialize

        from leakrt.core.bundle import Bundle, graph_name
        from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
        from leakrt.engines.build.derive import RECIPE
        from leakrt.engines.cache.cache import default_cache

        opened = Bundle(bundle)
        self.trt.graphs = vae_encoder_graph(opened.spec), leak_encoder_graph(opened.spec)
        for graph, samples in zip(self.trt.graphs, (1, opened.spec.draws), strict=True):
            name = graph_name(graph.stem, precision)
            sizes = tuple(batch * samples for batch in batches)
            fields = {"graph": graph.stem, "precision": precision, "source": opened.hashes[name], "batches": sizes}
            fields |= {"flavour": self.flavour, "version": self.version, "device": self.found[0], "recipe": RECIPE}
            half = {t.name for t in (graph.input, *graph.outputs)} & HALF if precision != "fp32" else ()
            model = (graphs or {}).get(graph.stem) or opened.read(name)
            data = serialize(model, sizes, half=frozenset(half))
            default_cache().store(record_of(data, key=replace(KEY, **{**fields, **changed})), data)

    @property
    def held(self) -> int:
        """Bytes of all devices."""
        return sum(device.held() for _, device in self.opened)


class _Streams:
    """Every stream of every device, by its handle."""

    def __init__(self, gpus: HostGpus) -> None:
        self._gpus = gpus

    def __contains__(self, handle: int) -> bool:
        return any(handle in device._streams for _, device in self._gpus.opened)

    def __getitem__(self, handle: int):
        return next(device._streams[handle] for _, device in self._gpus.opened if handle in device._streams)
