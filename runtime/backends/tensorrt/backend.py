"""A running GpuRunner as a backend of the Detector: frames of any size in, outputs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

import numpy as np

from ....core.outputs import LeakOutputs
from ..base import Array, ChainResult, Description, Frame
from ..device_memory import OutOfMemoryError
from .runner import GpuRunner

_FRAME_BYTES = 256 << 20  # of the frames of one batch, unless a single one is larger: a slot keeps room for them

_log = logging.getLogger(__name__)


class GpuBackend:
    """A `FrameBackend`. What a slot has no room for is done in smaller batches, and said in the log."""

    forkable = False

    def __init__(self, name: str, version: str, precision: str, *, threads: int, runner: GpuRunner, draws: int) -> None:
        """`version` is of the library behind it, `threads` what the CPU's share of the work takes."""
        self.name, self.precision = name, precision
        self._version, self._threads, self._draws = version, threads, draws
        self._runner, self._told = runner, False
        self.batch, self.ahead = max(runner.ready.batches), runner.ready.slots + 1
        for note in runner.ready.notes:
            _log.warning("%s: %s", name, note)

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ChainResult]:
        """Put up to `batch` frames on their way; see `FrameBackend`."""
        begun = [(part, self._runner.submit(part)) for part in _parts(frames)]
        return lambda: _joined([self._result(part, future) for part, future in begun])

    def vae_encoder(self, image: Array) -> Array:
        """image float32 [B, 3, S, S] to latent float32 [B, 4, S/8, S/8], scaled. Raises ModelError, BackendError."""
        step = self.batch
        return np.concatenate([self._runner.encode(image[i : i + step]) for i in range(0, len(image), step)])

    def leak_encoder(self, noised: Array) -> LeakOutputs:
        """noised float32 [B, T, 4, S/8, S/8] to the four outputs, one row each. Raises ModelError, BackendError."""
        step = self.batch * self._draws
        return LeakOutputs.concatenate([self._runner.judge(noised[i : i + step]) for i in range(0, len(noised), step)])

    def describe(self) -> Description:
        """What runs, and where; the memory is without the engines' weights."""
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
        """End what is on its way and free the device's memory; a second time is nothing."""
        self._runner.close()

    def _result(self, frames: Sequence[Frame], future: Future[ChainResult]) -> ChainResult:
        """What came of a part; where memory ran out, the same in halves. Raises it for a single frame."""
        try:
            return future.result()
        except OutOfMemoryError as error:
            if len(frames) == 1:
                raise
            if not self._told:
                self._told = True
                _log.warning("%s: going on in smaller batches: %s", self.name, error)
        half = len(frames) // 2
        return _joined([self._result(part, self._runner.submit(part)) for part in (frames[:half], frames[half:])])


def _parts(frames: Sequence[Frame]) -> Iterator[Sequence[Frame]]:
    """The frames in order, in as few parts as keep to _FRAME_BYTES."""
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
