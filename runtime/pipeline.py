"""The way of one frame as arrays: preprocess, VAE encoder, noising, leak encoder, log-density."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from .. import _core
from ..core.bounds import UNSTATED, Bounds
from ..core.errors import BundleError
from ..core.noising import Noising
from ..core.outputs import LeakOutputs
from ..core.spec import ModelSpec
from ..core.support import Support
from .backends.base import Backend, ChainBackend, ChainResult, Frame, FrameBackend
from .forked import ForkLock, Home, keep_in_children

Array = npt.NDArray[np.float32]
Input = Array | Frame  # what `Pipeline.prepare` makes of a frame
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """What a batch of B images gave."""

    outputs: LeakOutputs  # averaged over draws
    log_density: npt.NDArray[np.float64]  # [B]
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # stage to milliseconds for each image
    faults: tuple[str, ...] = ()  # [B] why an image's outputs can't be believed; empty strings where they can


class Pipeline:
    """A backend with everything around it. Its noise and buffers are made once.

    Safe from any thread: on a FrameBackend several batches are under way at once, on any other one at a time.
    Attribute `ahead`: how many batches can be.
    """

    def __init__(
        self, spec: ModelSpec, support: Support, backend: Backend, *, threads: int, bounds: Bounds = UNSTATED
    ) -> None:
        """Make the noise bank. Raises BundleError when the support is not of the spec's shape."""
        _check_support(spec, support)
        self._spec, self._support, self._backend, self._threads = spec, support, backend, threads
        # Asked once: to look whether an object has a protocol's methods takes longer than a small stage.
        self._frames = backend if isinstance(backend, FrameBackend) else None
        self._chain = backend if isinstance(backend, ChainBackend) else None
        self._bounds = bounds
        noises_itself = self._frames is not None or self._chain is not None
        self._noising = None if noises_itself else Noising(spec, threads=threads)
        self._noised = np.empty((0, len(spec.timesteps), *spec.latent_shape), np.float32)
        self._lock = ForkLock()
        self.ahead = self._frames.ahead if self._frames is not None else 1
        self._home = Home(f"the backend {backend.name}")
        keep_in_children(backend)

    def prepare(self, frame: Frame) -> Input:
        """What `run` takes of a frame uint8 [H, W, 3] BGR: float32 [3, S, S], or the frame itself where the backend
        preprocesses on its device. Safe from any thread."""
        if self._frames is not None:
            return np.ascontiguousarray(frame)  # a crop keeps its pixels and not the whole image
        image = self.image_buffer()
        self.preprocess(frame, image)
        return image

    def preprocess(self, frame: Frame, out: Array) -> None:
        """Fill `out` float32 [3, S, S] from a frame uint8 [H, W, 3] BGR of any size. Safe from any thread."""
        _core.preprocess(frame, out, threads=self._threads)

    def image_buffer(self) -> Array:
        """A new buffer for one preprocessed image, float32 [3, S, S]."""
        return np.empty((3, self._spec.image_size, self._spec.image_size), np.float32)

    def together(self, batch: int) -> int:
        """How many of a batch gain by being computed together: on a CPU one, whose verdict is ready the sooner."""
        return batch if self._frames is not None else min(batch, self._backend.batch)

    def run(self, images: Sequence[Input]) -> PipelineResult:
        """From what `prepare` gave to outputs and log-density. Raises ModelError, BackendError.

        As many go through the backend at once as it says; the buffer for the noised latents is made once.
        """
        return self.start(images)()

    def start(self, images: Sequence[Input]) -> Callable[[], PipelineResult]:
        """`run` in two parts: a FrameBackend begins at once, any other when the call that is returned is made.

        Raises BackendError in a forked child, unless the backend says that it survives a fork.
        """
        if not self._home.is_here and not self._backend.forkable:
            self._home.require()
        backend = self._frames
        if backend is None:
            return lambda: self._run(cast(Sequence[Array], images))
        frames = cast(Sequence[Frame], images)
        begin, step = time.perf_counter(), backend.batch
        waits = [backend.submit(frames[i : i + step]) for i in range(0, len(frames), step)]
        return lambda: self._collect(waits, len(frames), begin)

    def close(self) -> None:
        """Free what a FrameBackend holds on its device; idempotent. In a forked child it does nothing."""
        if self._frames is not None and self._home.is_here:
            self._frames.close()

    def _run(self, images: Sequence[Array]) -> PipelineResult:
        clock, step = _Clock(), self._backend.batch
        with self._lock:
            parts = [self._run_batch(_batch(images[i : i + step]), clock) for i in range(0, len(images), step)]
        return self._result(parts, len(images), clock)

    def _collect(self, waits: Sequence[Callable[[], ChainResult]], count: int, begin: float) -> PipelineResult:
        """As `_run`; what the device's stages do not explain of the time is the stage `wait`."""
        clock, parts, draws = _Clock(), [], self._spec.draws
        for result in [wait() for wait in waits]:
            clock.add({stage: ms / 1e3 for stage, ms in result.latency_ms.items()})
            outputs = result.outputs.average_draws(draws)
            parts.append((outputs, self._faults(result.latent, outputs)))
        clock.add({"wait": max(0.0, time.perf_counter() - begin - clock.total)})
        return self._result(parts, count, clock)

    def _result(self, parts: Sequence[tuple[LeakOutputs, list[str]]], count: int, clock: _Clock) -> PipelineResult:
        outputs = parts[0][0] if len(parts) == 1 else LeakOutputs.concatenate([part for part, _ in parts])
        density = clock.time("decision", lambda: self._log_density(outputs.embedding))
        faults = tuple(fault for _, found in parts for fault in found)
        return PipelineResult(outputs=outputs, log_density=density, latency_ms=clock.per(count), faults=faults)

    def _run_batch(self, images: Array, clock: _Clock) -> tuple[LeakOutputs, list[str]]:
        """Outputs of a batch, and for each image of it why they can't be believed."""
        if self._chain is not None:
            return self._run_chain(self._chain, images, clock)
        latent = clock.time("vae", lambda: self._backend.vae_encoder(images))
        noised = clock.time("noising", lambda: self._noise(latent))
        outputs = clock.time("leak", lambda: self._backend.leak_encoder(noised).average_draws(self._spec.draws))
        return outputs, clock.time("decision", lambda: self._faults(latent, outputs))

    def _run_chain(self, backend: ChainBackend, images: Array, clock: _Clock) -> tuple[LeakOutputs, list[str]]:
        """As `_run_batch`; what the device's stages do not explain of the time is the stage `copy`."""
        begin = time.perf_counter()
        result = backend.chain(images)
        outputs = result.outputs.average_draws(self._spec.draws)
        wall = time.perf_counter() - begin
        stages = {stage: milliseconds / 1e3 for stage, milliseconds in result.latency_ms.items()}
        clock.add({**stages, "copy": max(0.0, wall - sum(stages.values()))})
        return outputs, clock.time("decision", lambda: self._faults(result.latent, outputs))

    def _faults(self, latent: Array, outputs: LeakOutputs) -> list[str]:
        return [self._bounds.fault(z, outputs, row) for row, z in enumerate(latent)]

    def _noise(self, latent: Array) -> Array:
        rows = len(latent) * self._spec.draws
        if len(self._noised) < rows:
            self._noised = np.empty((rows, *self._noised.shape[1:]), np.float32)
        assert self._noising is not None  # only a backend that noises itself has none, and it takes another path
        return self._noising(latent, self._noised[:rows])

    def _log_density(self, embedding: Array) -> npt.NDArray[np.float64]:
        support = self._support
        return _core.kde_log_density(
            support.project(embedding), support.points, support.bandwidth, threads=self._threads
        )


def _batch(images: Sequence[Array]) -> Array:
    """float32 [B, 3, S, S]; of one image a view."""
    return images[0][None] if len(images) == 1 else np.stack(images)


class _Clock:
    """Adds up the time of each stage."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def time(self, stage: str, work: Callable[[], _T]) -> _T:
        begin = time.perf_counter()
        result = work()
        self.add({stage: time.perf_counter() - begin})
        return result

    def add(self, seconds: Mapping[str, float]) -> None:
        """Of stages that were timed elsewhere."""
        for stage, spent in seconds.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + spent

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self._seconds.values())

    def per(self, images: int) -> dict[str, float]:
        """Milliseconds of each stage for one of `images`."""
        return {stage: 1e3 * seconds / images for stage, seconds in self._seconds.items()}


def _check_support(spec: ModelSpec, support: Support) -> None:
    expected = (len(spec.class_names), spec.prototypes_per_class, spec.embedding_dim)
    if support.prototypes.shape != expected:
        found = list(support.prototypes.shape)
        raise BundleError(f"the density support has prototypes {found}, the spec {list(expected)}; export it again")
