"""A GPU that needs no time, or a stated one: what the runtime asks of it returns at once, and the results are there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from leakrt import _core
from leakrt.core.graphs import GraphSpec, leak_encoder_graph, vae_encoder_graph
from leakrt.core.spec import ModelSpec
from leakrt.runtime.backends.device_memory import Event, FrameAt, Stream
from leakrt.runtime.backends.tensorrt.slot import Engines

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from host_device import HostBlock

Block = npt.NDArray[np.uint8]
_PER_MS = 900_000  # normals that a core with AVX-512 draws in about a millisecond
_HALF = ("image", "latent", "noised")  # float16 at an engine's boundary, as `leakrt build` makes it


def idle_engines(spec: ModelSpec) -> Engines:
    """Two that do nothing."""
    return Engines(IdleEngine(vae_encoder_graph(spec)), IdleEngine(leak_encoder_graph(spec)))


class IdleDevice:
    """A `Device` on host memory that does nothing but leave `results` where outputs are copied to.

    Who waits for it waits for about `busy_ms`, at work without the interpreter's lock as CUDA is; `waited_ms` says how
    long that took the last time.
    """

    name, mapped = "none", False

    def __init__(self, results: Block, busy_ms: float = 0.0) -> None:
        self._results, self.kernels = results, IdleKernels()
        self._work = np.empty(int(busy_ms * _PER_MS) // 4 * 4, np.float32).reshape(1, 1, -1, 1, 1)
        self.waited_ms = 0.0

    def stream(self) -> IdleStream:
        return IdleStream()

    def event(self) -> IdleEvent:
        return IdleEvent(self)

    def wait(self) -> None:
        """Take the time that was asked for."""
        begin = time.perf_counter()
        if self._work.size:
            _core.fill_normals(0, 0, self._work, threads=1)
        self.waited_ms = 1e3 * (time.perf_counter() - begin)

    def allocate(self, size: int, what: str) -> HostBlock:
        return HostBlock(size, lambda _: None, 0)

    allocate_host = allocate

    def copy_in(self, to: int, source: npt.NDArray[Any], stream: Stream) -> None: ...

    def copy_out(self, to: npt.NDArray[Any], source: int, stream: Stream) -> None:
        to[:] = self._results[: len(to)]

    def capture(self, stream: Stream, work: Callable[[], None]) -> IdleGraph:
        return IdleGraph()

    def held(self) -> int:
        return 0

    def close(self) -> None: ...


class IdleStream:
    handle = 1

    def synchronize(self) -> None: ...

    def free(self) -> None: ...


class IdleEvent:
    def __init__(self, device: IdleDevice) -> None:
        self._device = device

    def record(self, stream: Stream) -> None: ...

    def synchronize(self) -> None:
        self._device.wait()

    def milliseconds_since(self, other: Event) -> float:
        return 0.0

    def free(self) -> None: ...


class IdleGraph:
    nodes = 1

    def launch(self, stream: Stream) -> None: ...

    def free(self) -> None: ...


class IdleKernels:
    def fill_normals(self, *arguments: int) -> None: ...

    def noise_steps(self, *arguments: Any) -> None: ...

    def preprocess(self, frames: Sequence[FrameAt], size: int, out: int, out_type: str, stream: int) -> None: ...


class IdleEngine:
    """An `Engine` with the types at its boundary that a built one has."""

    batches = (1,)

    def __init__(self, graph: GraphSpec) -> None:
        self.types = {t.name: "float16" if t.name in _HALF else "float32" for t in (graph.input, *graph.outputs)}

    def workspace(self, batch: int) -> int:
        return 1

    def bind(self, batch: int, addresses: Mapping[str, int], workspace: int, stream: Stream) -> IdleBinding:
        return IdleBinding()

    def free(self) -> None: ...


class IdleBinding:
    def enqueue(self, stream: Stream) -> None: ...

    def free(self) -> None: ...
