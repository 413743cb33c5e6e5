"""Adapts a GpuRunner to the Detector's backend interface."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np

from ....core.outputs import LeakOutputs
from ..base import Array, ChainResult, Description, Frame
from ..device_memory import OutOfMemoryError
from .runner import GpuRunner

_FRAME_BYTES = 256 << 20  # of the frames of one batch, unless one frame is larger; bounds a slot's staging memory

_log = logging.getLogger(__name__)


class GpuBackend:
    """A `FrameBackend`. Splits batches that do not fit into GPU memory and logs a warning."""

    forkable = False

    def __init__(self, name: str, version: str, precision: str, *, threads: int, runner: GpuRunner, draws: int) -> None:
        """`version`: of the inference library. `threads`: used by the CPU's part of the work."""
        self.name, self.precision = name, precision
        self._version, self._threads, self._draws = version, threads, draws
        self._runner, self._warned = runner, False
        self.batch, self.ahead = max(runner.ready.batches), runner.ready.slots + 1
        for note in runner.ready.notes:
            _log.warning("%s: %s", name, note)

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ChainResult]:
        """Submit up to `batch` frames; see `FrameBackend`."""
        begun = [(part, self._runner.submit(part)) for part in _parts(frames)]
        return lambda: _joined([self._result(part, future) for part, future in begun])

    def vae_encoder(self, image: Array) -> Array:
        """Encode image float32 [B, 3, S, S] to the scaled latent float32 [B, C, S/8, S/8].

        Raises ModelError, BackendError.
        """
        step = self.batch
        return np.concatenate([self._runner.encode(image[i : i + step]) for i in range(0, len(image), step)])

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """Return the four outputs, one row each, of noised float32 [B, T, C, S/8, S/8].

        Raises ModelError, BackendError.
        """
        step = self.batch * self._draws
        return LeakOutputs.concatenate([self._runner.judge(noised[i : i + step]) for i in range(0, len(noised), step)])

    def describe(self) -> Description:
        """Return the version, device and precision; `device_bytes` excludes the engines' weights."""
        ready = self._runner.ready
        return Description(
            backend=self.name,
            version=self._version,
            device=ready.device,
            precision=self.precision,
            threads=self._threads,
            device_bytes=ready.held,
        )

    def close(self) -> None:
        """Finish the submitted batches and free the device's memory. Idempotent."""
        self._runner.close()

    def _result(self, frames: Sequence[Frame], future: Future[ChainResult]) -> ChainResult:
        """Return the result of a part; out of memory, run its halves. Raises OutOfMemoryError for a single frame."""
        try:
            return future.result()
        except OutOfMemoryError as error:
            if len(frames) == 1:
                raise
            if not self._warned:
                self._warned = True
                _log.warning("%s: continuing with smaller batches: %s", self.name, error)
        half = len(frames) // 2
        return _joined([self._result(part, self._runner.submit(part)) for part in (frames[:half], frames[half:])])


def _parts(frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
    """Yield consecutive parts of the frames, each of at most _FRAME_BYTES."""
    begin = size = 0
    for end, frame in enumerate(frames):
        if end > begin and size + frame.nbytes > _FRAME_BYTES:
            yield frames[begin:end]
            begin, size = end, 0
        size += frame.nbytes
    yield frames[begin:]


def _joined(results: Sequence[ChainResult]) -> ChainResult:
    if len(results) == 1:
        return results[0]
    times = {stage: sum(result.latency_ms[stage] for result in results) for stage in results[0].latency_ms}
    latent = np.concatenate([result.latent for result in results])
    return ChainResult(latent, LeakOutputs.concatenate([result.outputs for result in results]), times)
