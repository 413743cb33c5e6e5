"""Stands in for `leakrt._cuda` where PyCUDA's driver is host memory: kernels at once, events of the host's clock."""

from __future__ import annotations

import time

from host_engine import HostEngine

from leakrt import _grid
from leakrt.core.errors import BackendError

_EVENTS: dict[int, float] = {}


def fill_normals(out, draws, steps, elements, seed, sample, stream=0) -> None:
    _grid.fill_normals(out, draws, steps, elements, seed, sample)


def noise_steps(*arguments) -> None:
    _grid.noise_steps(*arguments[:-1])


def preprocess(frames, size, out, out_type, stream=0) -> None:
    _grid.preprocess(list(frames), size, out, out_type)


def create_event() -> int:
    _EVENTS[len(_EVENTS) + 1] = 0.0
    return len(_EVENTS)


def record_event(event: int, stream: int) -> None:
    assert stream
    _EVENTS[event] = time.perf_counter()


def synchronize_event(event: int) -> None:
    assert event in _EVENTS


def event_milliseconds(begin: int, end: int) -> float:
    return 1e3 * (_EVENTS[end] - _EVENTS[begin])


def destroy_event(event: int) -> None:
    assert event in _EVENTS


def begin_capture(stream: int) -> None:
    raise BackendError("this driver captures nothing")


class DirectEngine(HostEngine):
    """A HostEngine that runs where it is enqueued."""

    def bind(self, batch, addresses, workspace, *, stream):
        bound = super().bind(batch, addresses, workspace, stream=stream)
        bound.enqueue = lambda stream: bound._run()
        return bound
