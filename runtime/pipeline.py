"""The inference pipeline: preprocessing, VAE encoder, noising, leak encoder, log-density."""

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
Input = Array | Frame  # the result of `Pipeline.prepare`
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class PipelineResult:
    """The results of a batch of B images."""

    outputs: LeakOutputs  # averaged over draws
    log_density: npt.NDArray[np.float64]  # [B]
    latency_ms: Mapping[str, float] = field(default_factory=dict)  # stage to milliseconds per image
    faults: tuple[str, ...] = ()  # [B] why an image's outputs are invalid; empty for valid outputs


class Pipeline:
    """Runs preprocessing, a backend's graphs, noising and log-density. The noise bank is created once.

    Thread-safe. A FrameBackend computes several batches concurrently, any other backend one at a time.
    Attribute `ahead`: the number of batches that can be in flight.
    """

    def __init__(
        self, spec: ModelSpec, support: Support, backend: Backend, *, threads: int, bounds: Bounds = UNSTATED
    ) -> None:
        """Create the noise bank. Raises BundleError if the support's shape does not match the spec."""
        _check_support(spec, support)
        self._spec, self._support, self._backend, self._threads = spec, support, backend, threads
        # Checked once: isinstance with a runtime protocol takes longer than a small stage.
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
        """Convert a frame uint8 [H, W, 3] BGR to the input of `run`. Thread-safe.

        Returns float32 [3, S, S], or the frame itself if the backend preprocesses on its device.
        """
        if self._frames is not None:
            return np.ascontiguousarray(frame)  # a copy of a crop does not keep the whole image alive
        image = self.image_buffer()
        self.preprocess(frame, image)
        return image

    def preprocess(self, frame: Frame, out: Array) -> None:
        """Fill `out` float32 [3, S, S] from a frame uint8 [H, W, 3] BGR of any size. Thread-safe."""
        _core.preprocess(frame, out, threads=self._threads)

    def image_buffer(self) -> Array:
        """Allocate a buffer for one preprocessed image, float32 [3, S, S]."""
        return np.empty((3, self._spec.image_size, self._spec.image_size), np.float32)

    def together(self, batch: int) -> int:
        """Return how many of `batch` ready images to compute at once. On a CPU, one at a time has lower latency."""
        return batch if self._frames is not None else min(batch, self._backend.batch)

    def run(self, images: Sequence[Input]) -> PipelineResult:
        """Compute outputs and log-density for results of `prepare`. Raises ModelError, BackendError.

        The backend receives at most `Backend.batch` images at once.
        """
        return self.start(images)()

    def start(self, images: Sequence[Input]) -> Callable[[], PipelineResult]:
        """Start `run`; the returned call waits and returns its result.

        A FrameBackend starts at once, any other backend when the returned call is made. Raises BackendError in a forked
        child, unless the backend is `forkable`.
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
        """Free a FrameBackend's device memory. Idempotent, and has no effect in a forked child."""
        if self._frames is not None and self._home.is_here:
            self._frames.close()

    def _run(self, images: Sequence[Array]) -> PipelineResult:
        clock, step = _Clock(), self._backend.batch
        with self._lock:
            parts = [self._run_batch(_batch(images[i : i + step]), clock) for i in range(0, len(images), step)]
        return self._result(parts, len(images), clock)

    def _collect(self, waits: Sequence[Callable[[], ChainResult]], count: int, begin: float) -> PipelineResult:
        """Like `_run`. Time outside the device's stages is reported as the stage `wait`."""
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
        """Return a batch's outputs and, for each image, its fault."""
        if self._chain is not None:
            return self._run_chain(self._chain, images, clock)
        latent = clock.time("vae", lambda: self._backend.vae_encoder(images))
        noised = clock.time("noising", lambda: self._noise(latent))
        outputs = clock.time("leak", lambda: self._backend.leak_encoder(noised).average_draws(self._spec.draws))
        return outputs, clock.time("decision", lambda: self._faults(latent, outputs))

    def _run_chain(self, backend: ChainBackend, images: Array, clock: _Clock) -> tuple[LeakOutputs, list[str]]:
        """Like `_run_batch`. Time outside the device's stages is reported as the stage `copy`."""
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
    """Stack images to float32 [B, 3, S, S]; a single image is not copied."""
    return images[0][None] if len(images) == 1 else np.stack(images)


class _Clock:
    """Accumulates the time of each stage."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def time(self, stage: str, work: Callable[[], _T]) -> _T:
        begin = time.perf_counter()
        result = work()
        self.add({stage: time.perf_counter() - begin})
        return result

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add seconds per stage that were measured elsewhere."""
        for stage, spent in seconds.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + spent

    @property
    def total(self) -> float:
        """Total seconds of all stages."""
        return sum(self._seconds.values())

    def per(self, images: int) -> dict[str, float]:
        """Return milliseconds per stage and image."""
        return {stage: 1e3 * seconds / images for stage, seconds in self._seconds.items()}


def _check_support(spec: ModelSpec, support: Support) -> None:
    expected = (len(spec.class_names), spec.prototypes_per_class, spec.embedding_dim)
    if support.prototypes.shape != expected:
        found = list(support.prototypes.shape)
        raise BundleError(
            f"the density support has prototypes {found}, but the spec has {list(expected)}; export the bundle again"
        )
