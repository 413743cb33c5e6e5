"""One slot: a stream with the buffers of one batch, and one CUDA graph per batch size.

    copy -> preprocess -> [ VAE encoder -> noising -> leak encoder -> copy ]

The graph contains the part in brackets. The stages before it depend on the sizes of the frames and are launched
one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ....core.errors import BackendError
from ....core.outputs import LeakOutputs
from ....core.spec import ModelSpec
from ..base import ChainResult
from ..device_memory import CapturedGraph, Device, Event, Frame, FrameAt, Stream
from .buffers import Buffers, Part, Piece, result_parts
from .engine import Binding, Engine

Array = npt.NDArray[np.float32]
_OUTPUTS = tuple(LeakOutputs.__dataclass_fields__)
# In order. An event ends each stage.
STAGES = ("copy_in", "preprocess", "vae", "noising", "leak", "copy_out")


@dataclass(frozen=True)
class Engines:
    """The two engines of a variant."""

    vae: Engine
    leak: Engine

    @property
    def types(self) -> dict[str, str]:
        """Tensor name to element type. Raises BackendError if the scores are not float32."""
        types = {**self.vae.types, **self.leak.types}
        if types["scores"] != "float32":
            raise BackendError(
                f"the leak encoder's engine returns {types['scores']} scores, expected float32; rebuild the engine"
            )
        return types

    def workspace(self, spec: ModelSpec, batch: int) -> int:
        """Return the scratch bytes for both, which run in turn and share the memory."""
        return max(self.vae.workspace(batch), self.leak.workspace(batch * spec.draws))

    def close(self) -> None:
        """Free both."""
        self.vae.free()
        self.leak.free()


@dataclass(frozen=True)
class Noise:
    """Inputs of noising that all slots share."""

    bank: int  # address of float32 [draws, T, C, S/8, S/8]
    coefficients: Array  # [T, 2]


@dataclass(kw_only=True)
class _Plan:
    """A slot set up for one batch size."""

    batch: int
    parts: Mapping[str, Part]
    vae: Binding
    leak: Binding
    results: Mapping[str, npt.NDArray[Any]]  # views of the host's block
    graph: CapturedGraph | None = None

    @property
    def size(self) -> int:
        """Bytes of the results of this batch size."""
        return max(part.offset + part.size for part in self.parts.values())


class Slot:
    """Create, use and close it in the thread of its device. `notes`: messages for the user."""

    def __init__(
        self,
        device: Device,
        spec: ModelSpec,
        engines: Engines,
        *,
        noise: Noise,
        batches: Sequence[int],
        graphs: bool = True,
    ) -> None:
        """Allocate memory; for each batch size bind the engines, run them once and, with `graphs`, capture a graph.

        Raises OutOfMemoryError, ModelError, BackendError after freeing what was allocated.
        """
        self._device, self._spec, self._noise = device, spec, noise
        self._types = engines.types
        self.notes: list[str] = []
        self._closed = False
        self._plans: dict[int, _Plan] = {}
        self._events: list[Event] = []
        self._buffers: Buffers | None = None
        self._stream: Stream = device.stream()
        try:
            self._events += [device.event() for _ in range(len(STAGES) + 2)]
            workspace = max(engines.workspace(spec, batch) for batch in batches)
            self._buffers = Buffers(device, spec, max(batches), types=self._types, workspace=workspace)
            for batch in sorted(batches):
                self._plans[batch] = self._plan(engines, batch, graphs)
        except BaseException:
            self.close()
            raise

    def launch(self, frames: Sequence[Frame], batch: int) -> Callable[[], ChainResult]:
        """Launch the chain for up to `batch` frames; the returned function waits for the result.

        Raises OutOfMemoryError for frames that do not fit, BackendError; the slot stays usable.
        """
        plan = self._plans[batch]
        pieces, where = self._memory.stage(frames)
        try:
            self._put(plan, pieces, where)
        except BaseException:
            with suppress(BackendError):  # pending copies still read the staging buffer
                self._stream.synchronize()
            raise
        return lambda: self._collect(plan, len(frames))

    def _put(self, plan: _Plan, pieces: Iterable[Piece], where: list[FrameAt]) -> None:
        """Enqueue the whole chain on the stream."""
        stream, device, memory = self._stream, self._device, self._memory
        self._events[0].record(stream)
        for address, piece in pieces:
            device.copy_in(address, piece, stream)
        self._mark("copy_in")
        size = self._spec.image_size
        device.kernels.preprocess(where, size, memory.image.address, self._types["image"], stream.handle)
        self._mark("preprocess")
        if plan.graph is not None:
            plan.graph.launch(stream)
        else:
            self._run(plan)
        self._events[-1].record(stream)  # outside the graph: the host can wait for it

    def encode(self, images: Array) -> Array:
        """Run only the VAE encoder: image float32 [B, 3, S, S] to latent float32 [B, C, S/8, S/8].

        Raises BackendError if B exceeds the largest batch size.
        """
        plan = self._plan_for(len(images))
        self._feed(images, self._memory.image.address, "image")
        plan.vae.enqueue(self._stream)
        return self._read(plan, "latent")[: len(images)]

    def judge(self, noised: Array) -> LeakOutputs:
        """Run only the leak encoder: noised float32 [B, T, C, S/8, S/8] to its outputs, one row each.

        Raises BackendError if B exceeds the largest batch size times draws.
        """
        rows = len(noised)
        plan = self._plan_for(-(-rows // self._spec.draws))
        self._feed(noised, self._memory.noised.address, "noised")
        plan.leak.enqueue(self._stream)
        return LeakOutputs(*(self._read(plan, name)[:rows] for name in _OUTPUTS))

    def close(self) -> None:
        """Wait for the stream, then free everything, users first. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            self._stream.synchronize()
        except BackendError as error:  # after a device error, still free the rest
            self.notes.append(str(error))
        for plan in self._plans.values():
            if plan.graph is not None:
                plan.graph.free()
            plan.vae.free()
            plan.leak.free()
        for event in self._events:
            event.free()
        if self._buffers is not None:
            self._buffers.close()
        self._plans, self._events, self._buffers = {}, [], None
        self._stream.free()

    @property
    def nodes(self) -> Mapping[int, int]:
        """Batch size to number of nodes of its CUDA graph; 0 without a graph."""
        return {batch: plan.graph.nodes if plan.graph else 0 for batch, plan in self._plans.items()}

    @property
    def _memory(self) -> Buffers:
        assert self._buffers is not None
        return self._buffers

    def _plan(self, engines: Engines, batch: int, graphs: bool) -> _Plan:
        memory, rows = self._memory, batch * self._spec.draws
        parts = result_parts(self._spec, batch, self._types)
        at = {name: memory.results.address + part.offset for name, part in parts.items()}
        at |= {"image": memory.image.address, "noised": memory.noised.address}
        workspace = memory.workspace.address
        vae = engines.vae.bind(batch, {n: at[n] for n in engines.vae.types}, workspace, stream=self._stream)
        try:
            leak = engines.leak.bind(rows, {n: at[n] for n in engines.leak.types}, workspace, stream=self._stream)
        except BaseException:
            vae.free()
            raise
        results = {name: part.of(memory.results_host.array) for name, part in parts.items()}
        plan = self._plans[batch] = _Plan(batch=batch, parts=parts, vae=vae, leak=leak, results=results)
        self._run(plan)  # TensorRT initializes in the first run, which can't be captured
        self._stream.synchronize()
        if graphs:
            self._capture(plan)
        return plan

    def _capture(self, plan: _Plan) -> None:
        try:
            plan.graph = self._device.capture(self._stream, lambda: self._run(plan))
        except BackendError as error:
            self.notes.append(f"batch {plan.batch} runs without a CUDA graph, which is slower ({error})")

    def _run(self, plan: _Plan) -> None:
        """Enqueue the stages that the graph contains."""
        spec, memory, stream = self._spec, self._memory, self._stream
        plan.vae.enqueue(stream)
        self._mark("vae")
        self._device.kernels.noise_steps(
            memory.results.address + plan.parts["latent"].offset,
            self._types["latent"],
            self._noise.bank,
            self._noise.coefficients,
            memory.noised.address,
            self._types["noised"],
            plan.batch,
            spec.draws,
            int(np.prod(spec.latent_shape)),
            stream.handle,
        )
        self._mark("noising")
        plan.leak.enqueue(stream)
        self._mark("leak")
        self._copy_out(plan)
        self._mark("copy_out")

    def _collect(self, plan: _Plan, count: int) -> ChainResult:
        self._events[-1].synchronize()
        times = {stage: self._events[i + 1].milliseconds_since(self._events[i]) for i, stage in enumerate(STAGES)}
        rows = count * self._spec.draws
        outputs = LeakOutputs(*(_copy(plan.results[name], rows) for name in _OUTPUTS))
        return ChainResult(_copy(plan.results["latent"], count), outputs, times)

    def _plan_for(self, images: int) -> _Plan:
        fitting = [plan for batch, plan in self._plans.items() if batch >= images]
        if not fitting:
            raise BackendError(f"batch of {images}: the engines accept at most {max(self._plans)}")
        return fitting[0]

    def _feed(self, values: Array, address: int, name: str) -> None:
        size = values.size * np.dtype(self._types[name]).itemsize
        staged = self._memory.staging(size).view(self._types[name]).reshape(values.shape)
        staged[...] = values
        self._device.copy_in(address, staged, self._stream)

    def _read(self, plan: _Plan, name: str) -> Array:
        self._copy_out(plan)
        self._stream.synchronize()
        return _copy(plan.results[name], len(plan.results[name]))

    def _copy_out(self, plan: _Plan) -> None:
        self._device.copy_out(self._memory.results_host.array[: plan.size], self._memory.results.address, self._stream)

    def _mark(self, stage: str) -> None:
        self._events[STAGES.index(stage) + 1].record(self._stream)


def _copy(values: npt.NDArray[Any], rows: int) -> Array:
    """Copy the first rows to float32: the next batch overwrites `values`."""
    return np.array(values[:rows], np.float32)
