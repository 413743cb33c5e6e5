"""A chain on a GPU as one CUDA graph for each batch size: captured at first use, after a plain run, then replayed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from .chain import STAGES, TorchChain
from .runner import Array, DeviceResult, PlainRunner, Runner, exact, stage_times, to_host

_WARM_RUNS = 3  # before a capture: libraries choose their algorithms, Triton compiles
_LEAD = 0.97  # of the first one's time that another memory format must stay under to be taken

_log = logging.getLogger(__name__)


class GraphRunner:
    """Runs images float32 [B, 3, S, S] of the host through a chain, on a stream of its own. For one thread at a time.

    Batches are padded to the next of `sizes`, so that there are few graphs. These share memory: one runs at a time.
    A chain that can't be captured is run operator by operator, and it is said once.
    """

    def __init__(self, chain: TorchChain, side: int, device: torch.device, sizes: Sequence[int]) -> None:
        """Nothing is captured yet. `sizes` ascend."""
        self.chain, self._side, self._device, self._sizes = chain, side, device, tuple(sizes)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._captured: dict[int, _Captured] = {}
        self._plain: PlainRunner | None = None

    def run(self, images: Array) -> DeviceResult:
        """At most the largest of `sizes` images. Raises ModelError, torch.cuda.OutOfMemoryError."""
        size = next(size for size in self._sizes if size >= len(images))
        with torch.inference_mode(), torch.cuda.device(self._device), torch.cuda.stream(self._stream), exact():
            if self._plain is None and size not in self._captured:
                self._try_to_capture(size)
            if self._plain is not None:
                return self._plain.run(images)
            return self._captured[size].replay(images, self._stream)

    def forget(self, size: int) -> None:
        """Drop the graphs of this batch size and larger ones, and the memory that only they held."""
        for held in [held for held in self._captured if held >= size]:
            del self._captured[held]
        torch.cuda.empty_cache()

    def _try_to_capture(self, size: int) -> None:
        image = torch.zeros((size, 3, self._side, self._side), device=self._device)
        for _ in range(_WARM_RUNS):
            self.chain(image)
        self._stream.synchronize()
        try:
            self._captured[size] = self._capture(image)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:  # torch, the driver and libraries raise what they like in a capture
            if "out of memory" in str(error):
                raise torch.cuda.OutOfMemoryError(str(error)) from error
            self._plain = PlainRunner(self.chain, self._device)
            why = " ".join(str(error).split())[:200]
            _log.warning("no CUDA graph can be made of this bundle (%s); it runs without, and slower", why)

    def _capture(self, image: Tensor) -> _Captured:
        events = [_event(self._stream) for _ in range(len(STAGES) + 1)]
        graph = torch.cuda.CUDAGraph()
        # thread_local: what other threads ask of CUDA meanwhile, such as another detector, does not spoil it
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            outputs = self.chain(image, lambda place: events[place].record(self._stream))
        pinned = torch.empty(image.shape, pin_memory=True)
        back = tuple(torch.empty(tensor.shape, pin_memory=True) for tensor in outputs)
        return _Captured(graph, image, pinned, outputs, back, tuple(events))


def _event(stream: torch.cuda.Stream) -> torch.cuda.Event:
    """One that a graph records at every launch (cudaEventRecordExternal); a plain one keeps no time in a capture."""
    event = torch.cuda.Event(enable_timing=True, external=True)  # type: ignore[no-untyped-call]
    event.record(stream)  # makes it; in a capture that would be too late
    return event


@dataclass(frozen=True)
class _Captured:
    """A graph with the tensors it reads and writes, and their copies in pinned memory of the host."""

    graph: torch.cuda.CUDAGraph
    image: Tensor
    pinned: Tensor
    outputs: tuple[Tensor, ...]
    back: tuple[Tensor, ...]
    events: tuple[torch.cuda.Event, ...]

    def replay(self, images: Array, stream: torch.cuda.Stream) -> DeviceResult:
        count, size = len(images), len(self.pinned)
        self.pinned[:count].copy_(torch.from_numpy(images))
        self.pinned[count:].zero_()
        self.image.copy_(self.pinned, non_blocking=True)
        self.graph.replay()
        for tensor, host in zip(self.outputs, self.back, strict=True):
            host.copy_(tensor, non_blocking=True)
        stream.synchronize()
        times = (a.elapsed_time(b) for a, b in pairwise(self.events))
        return DeviceResult(to_host(self.back, count, size), stage_times(times))


def quickest(makers: Sequence[Callable[[], Runner]], image: Array, rounds: int = 20) -> Runner:
    """The runner that takes `image` through fastest, by the median of its rounds.

    It is the first, unless another takes under 0.97 of its time, so that chance does not change which it is.
    """
    best, least = None, 0.0
    for make in makers:
        runner = make()
        taken = float(np.median([sum(runner.run(image).latency_ms.values()) for _ in range(rounds + 3)][3:]))
        if best is None or taken < _LEAD * least:
            best, least = runner, taken
    assert best is not None
    return best
