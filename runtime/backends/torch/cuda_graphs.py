"""Runs a chain on a GPU as one CUDA graph per batch size, captured at first use."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ....core.errors import one_line
from ..base import Frame
from .chain import STAGES, TorchChain
from .frames import FrameFeed
from .runner import Array, ChainRunner, DeviceResult, PlainRunner, exact, pack, unpack

_WARM_RUNS = 3  # before a capture: libraries select their algorithms, Triton compiles
_LEAD = 0.97  # another memory format replaces the first only if it takes less than this share of its time

R = TypeVar("R", bound=ChainRunner)
Fill = Callable[[], Iterator[tuple[str, torch.cuda.Event]]]

_log = logging.getLogger(__name__)


class CudaGraphRunner:
    """Runs images float32 [B, 3, S, S] of the host, or frames, through a chain on a separate stream. Not thread-safe.

    Batches are padded to the next of `sizes`, so that there are few graphs. The graphs share memory and run one at a
    time. A chain that can't be captured runs operator by operator, after one warning.
    """

    def __init__(
        self, chain: TorchChain, side: int, device: torch.device, *, sizes: Sequence[int], feed: FrameFeed | None = None
    ) -> None:
        """Captures nothing yet. `sizes` are ascending; `run_frames` needs `feed`."""
        self.chain, self._side, self._device, self._sizes = chain, side, device, tuple(sizes)
        self._feed = feed
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: dict[int, _Captured] = {}
        self._plain: PlainRunner | None = None

    def run(self, images: Array) -> DeviceResult:
        """Run at most the largest of `sizes` images. Raises ModelError, torch.cuda.OutOfMemoryError."""
        captured = self._find(len(images))
        if captured is None:
            with self._place():
                return self._without_graphs.run(images)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            captured.pinned[: len(images)].copy_(torch.from_numpy(images))

            def fill() -> Iterator[tuple[str, torch.cuda.Event]]:
                captured.image.copy_(captured.pinned, non_blocking=True)
                yield "copy_in", captured.marks[0]

            return captured.replay(len(images), self._stream, fill)

    def run_frames(self, frames: Sequence[Frame]) -> DeviceResult:
        """Run at most the largest of `sizes` frames uint8 [H, W, 3] BGR.

        Raises ModelError, BackendError, torch.cuda.OutOfMemoryError.
        """
        feed = self._feed
        assert feed is not None
        captured = self._find(len(frames))
        if captured is None:
            with self._place():
                staged = feed.stage(frames)
                image = torch.empty((len(frames), 3, self._side, self._side), device=self._device)
                staged.copy()
                feed.preprocess(staged, image)
                return self._without_graphs.take(image)
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            staged = feed.stage(frames)

            def fill() -> Iterator[tuple[str, torch.cuda.Event]]:
                staged.copy()
                captured.copied.record(self._stream)
                yield "copy_in", captured.copied
                feed.preprocess(staged, captured.image)
                yield "preprocess", captured.marks[0]

            return captured.replay(len(frames), self._stream, fill)

    def forget(self, size: int) -> None:
        """Free the graphs of this batch size and larger ones, with their memory."""
        for held in [held for held in self._captured if held >= size]:
            del self._captured[held]
        if not self._captured:  # torch does not accept a pool that no graph uses
            self._pool = torch.cuda.graph_pool_handle()
        torch.cuda.empty_cache()

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        with torch.inference_mode(), torch.cuda.device(self._device), torch.cuda.stream(self._stream), exact():
            yield

    @property
    def _without_graphs(self) -> PlainRunner:
        assert self._plain is not None
        return self._plain

    def _find(self, count: int) -> _Captured | None:
        """Return the graph for `count` images, captured if needed; None if graphs do not work."""
        size = next(size for size in self._sizes if size >= count)
        captured = self._captured.get(size)
        if captured is not None or self._plain is not None:
            return captured if self._plain is None else None
        with self._place():
            self._try_to_capture(size)
        return self._captured.get(size)

    def _try_to_capture(self, size: int) -> None:
        image = torch.zeros((size, 3, self._side, self._side), device=self._device)
        for _ in range(_WARM_RUNS):
            self.chain(image)
        self._stream.synchronize()
        try:
            self._captured[size] = self._capture(image)
        except Exception as error:  # torch, the driver and libraries raise various types in a capture
            full = out_of_memory(error)
            if full is not None:
                raise torch.cuda.OutOfMemoryError(str(full)) from error
            self._plain = PlainRunner(self.chain, self._device)
            why = one_line(error)
            _log.warning("no CUDA graph can be made of this bundle (%s); it runs without, and slower", why)

    def _capture(self, image: Tensor) -> _Captured:
        marks = tuple(_event(self._stream, inside=True) for _ in range(len(STAGES) + 1))
        graph = torch.cuda.CUDAGraph()
        # thread_local: CUDA calls of other threads, such as another detector's, do not invalidate the capture
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            outputs = self.chain(image, lambda place: marks[place].record(self._stream))
            packed = pack(outputs, len(image))
        others = (_event(self._stream, inside=False) for _ in range(3))
        pinned = torch.zeros(image.shape, pin_memory=True)
        host = torch.empty(packed.shape, pin_memory=True)
        shapes = tuple(tuple(output.shape) for output in outputs)
        return _Captured(graph, image, pinned, packed, host, host.numpy(), shapes, marks, *others)


def out_of_memory(error: BaseException | None) -> BaseException | None:
    """Return the out-of-memory error in a chain of causes, or None.

    Ending a failed capture raises an error that hides it.
    """
    while error is not None:
        if isinstance(error, torch.cuda.OutOfMemoryError) or "out of memory" in str(error):
            return error
        error = error.__cause__ or error.__context__
    return None


def _event(stream: torch.cuda.Stream, inside: bool) -> torch.cuda.Event:
    """Return a timing event. `inside`: for use in a capture (cudaEventRecordExternal); others keep no time there."""
    event = torch.cuda.Event(enable_timing=True, external=inside)  # type: ignore[no-untyped-call]
    event.record(stream)  # creates the event, which is not possible in a capture
    return event


@dataclass(frozen=True)
class _Captured:
    """A graph with its input and output tensors and their page-locked host buffers."""

    graph: torch.cuda.CUDAGraph
    image: Tensor
    pinned: Tensor  # rows beyond the batch keep old images; their outputs are ignored
    packed: Tensor
    host: Tensor
    rows: Array  # NumPy view of `host`
    shapes: tuple[tuple[int, ...], ...]  # of the outputs
    marks: tuple[torch.cuda.Event, ...]  # inside the graph: before the first stage and after each stage
    begin: torch.cuda.Event
    copied: torch.cuda.Event
    end: torch.cuda.Event

    def replay(self, count: int, stream: torch.cuda.Stream, fill: Fill) -> DeviceResult:
        """Fill `image`, launch the graph and return the results of the first `count` rows.

        `fill` enqueues the copies into `image` and yields each stage with the event that ends it.
        """
        self.begin.record(stream)
        first = list(fill())
        self.graph.replay()
        self.host.copy_(self.packed, non_blocking=True)
        self.end.record(stream)
        stream.synchronize()
        ends = [*first, *zip(STAGES, self.marks[1:], strict=True), ("copy_out", self.end)]
        moments = [self.begin, *(event for _, event in ends)]
        times = {name: a.elapsed_time(b) for (name, b), a in zip(ends, moments, strict=False)}
        return DeviceResult(unpack(self.rows[:count], self.shapes, len(self.image)), times)


def quickest(makers: Sequence[Callable[[], R]], image: Array, *, rounds: int = 20) -> R:
    """Return the runner with the lowest median time for `image`.

    A later runner replaces an earlier one only if it takes less than 0.97 of its time, so that noise does not change
    the choice.
    """
    best, least = None, 0.0
    for make in makers:
        runner = make()
        taken = float(np.median([sum(runner.run(image).latency_ms.values()) for _ in range(rounds + 3)][3:]))
        if best is None or taken < _LEAD * least:
            best, least = runner, taken
    assert best is not None
    return best
