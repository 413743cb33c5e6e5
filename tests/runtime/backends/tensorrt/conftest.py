"""Fixtures that run the GPU chain on host memory, with ONNX Runtime as the engine and LeakRT's own kernels."""

from __future__ import annotations

import numpy as np
import pytest
from host_device import HostDevice
from host_engine import HostEngine

from leakrt.core.bundle import Bundle
from leakrt.core.graphs import leak_encoder_graph, vae_encoder_graph
from leakrt.runtime.backends.base import Variant
from leakrt.runtime.backends.onnxruntime import OnnxRuntimeBackend
from leakrt.runtime.backends.tensorrt.runner import GpuRunner, RunnerOptions
from leakrt.runtime.backends.tensorrt.slot import Engines
from leakrt.runtime.pipeline import Pipeline

HALF = frozenset({"image", "latent", "noised"})


class Chain:
    """The tiny bundle with helpers that open devices, engines and runners."""

    def __init__(self, path) -> None:
        self.bundle = Bundle(path)
        self.spec = self.bundle.spec
        self.devices: list[HostDevice] = []

    def engines(self, batches=(1,), half: bool = False) -> Engines:
        """Return both graphs as ONNX Runtime engines; `half`: with the types of fp16 engines of `leakrt build`."""
        spec, names = self.spec, HALF if half else frozenset()
        vae, leak = (self.bundle.graph(stem, "fp32") for stem in ("vae_encoder", "leak_encoder"))
        rows = tuple(batch * spec.draws for batch in batches)
        return Engines(
            HostEngine(vae_encoder_graph(spec), vae, tuple(batches), half=names),
            HostEngine(leak_encoder_graph(spec), leak, rows, half=names),
        )

    def device(self, **options) -> HostDevice:
        self.devices.append(HostDevice(**options))
        return self.devices[-1]

    def runner(self, half: bool = False, device: dict | None = None, **options) -> GpuRunner:
        """Return a running GpuRunner; the caller closes it."""
        chosen = RunnerOptions(**options)
        return GpuRunner(
            self.spec,
            lambda: self.device(**(device or {})),
            lambda _: self.engines(chosen.batches, half),
            options=chosen,
        )

    def reference(self, frames):
        """Return the outputs of the CPU's pipeline for the frames."""
        graphs = [self.bundle.graph(stem, "fp32") for stem in ("vae_encoder", "leak_encoder")]
        backend = OnnxRuntimeBackend(Variant(self.spec, "fp32", *graphs), 1)
        pipeline = Pipeline(self.spec, self.bundle.support("fp32"), backend, threads=1)
        images = [pipeline.image_buffer() for _ in frames]
        for frame, image in zip(frames, images, strict=True):
            pipeline.preprocess(frame, image)
        return pipeline.run(images).outputs


@pytest.fixture
def chain(tiny):
    """Closes its devices after the test, which must have freed its allocations."""
    made = Chain(tiny)
    yield made
    for device in made.devices:
        device.close()  # raises if memory is still allocated; ends the streams' threads


@pytest.fixture
def frames():
    """Return a function that makes `count` noise frames of different odd sizes, uint8 [H, W, 3]."""

    def make(count: int, first: int = 0) -> list[np.ndarray]:
        return [
            np.random.default_rng(first + i).integers(0, 256, (41 + 7 * i % 29, 53 + 5 * i % 31, 3), dtype=np.uint8)
            for i in range(count)
        ]

    return make
