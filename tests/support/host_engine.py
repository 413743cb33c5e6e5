"""A bundle's graph on ONNX Runtime as an `Engine` of the host device."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from host_device import HostStream, view

from leakrt.core.graphs import GraphSpec
from leakrt.runtime.backends.device_memory import Stream
from leakrt.runtime.backends.onnxruntime import session


class HostEngine:
    """An `Engine`. `half` names the tensors that are float16 at its boundary, as `leakrt build` makes them."""

    def __init__(self, graph: GraphSpec, model: bytes, batches: tuple[int, ...], *, half: frozenset[str]) -> None:
        """Raises ModelError when ONNX Runtime can't load it."""
        self.batches, self._graph = batches, graph
        tensors = (graph.input, *graph.outputs)
        self.types = {t.name: "float16" if t.name in half else "float32" for t in tensors}
        self._session: Any = session(graph.stem, model, 1)

    def workspace(self, batch: int) -> int:
        """Some, so that its place in memory is tried; filled with rubbish at every run."""
        return 64 * batch

    def bind(self, batch: int, addresses: Mapping[str, int], workspace: int, *, stream: Stream) -> HostBinding:
        """Set it up on fixed addresses."""
        return HostBinding(partial(self._run, batch, dict(addresses), workspace))

    def free(self) -> None:
        """Forget the session."""
        self._session = None

    def _run(self, batch: int, addresses: Mapping[str, int], workspace: int) -> None:
        view(workspace, (self.workspace(batch),), "uint8")[:] = 0xA5
        given, names = self._graph.input, [tensor.name for tensor in self._graph.outputs]
        value = view(addresses[given.name], (batch, *given.shape), self.types[given.name])
        results = self._session.run(names, {given.name: value.astype(np.float32)})
        for tensor, result in zip(self._graph.outputs, results, strict=True):
            view(addresses[tensor.name], (batch, *tensor.shape), self.types[tensor.name])[...] = result


class HostBinding:
    """A `Binding`."""

    def __init__(self, run: partial[None]) -> None:
        self._run = run

    def enqueue(self, stream: Stream) -> None:
        """Run it when the stream gets there."""
        assert isinstance(stream, HostStream)
        stream.put(self._run)

    def free(self) -> None:
        """Nothing is held."""
