"""The fake device on host memory behaves like a GPU where the chain relies on it."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from host_device import HostDevice, view

from leakrt.core.errors import BackendError
from leakrt.runtime.backends.device_memory import ALIGNMENT, OutOfMemoryError


@pytest.fixture
def device():
    opened = HostDevice()
    yield opened
    opened.close()


def test_work_runs_after_earlier_work(device):
    stream, gate, order = device.stream(), threading.Event(), []
    stream.put(gate.wait)
    stream.put(lambda: order.append("second"))
    order.append("first")
    gate.set()
    stream.synchronize()
    assert order == ["first", "second"]


def test_memory_is_zeroed_and_aligned_and_garbage_once_freed(device):
    memory = device.allocate(1000, "a test")
    kept = memory.array
    assert memory.address % ALIGNMENT == 0
    assert not kept.any()
    memory.free()
    memory.free()
    assert (kept == 0xA5).all()
    assert device.held() == 0


def test_memory_runs_out():
    device = HostDevice(limit=3 << 20)
    first = device.allocate(2 << 20, "one")
    with pytest.raises(OutOfMemoryError, match=r"allocating 2\.0 MiB for two \(1\.0 MiB are free\)"):
        device.allocate(2 << 20, "two")
    first.free()
    device.close()


def test_closing_with_memory_left_is_an_error():
    device = HostDevice()
    device.allocate(64, "a test")
    with pytest.raises(BackendError, match="64 bytes are held"):
        device.close()


def test_copies_happen_in_stream_order(device):
    stream, gate = device.stream(), threading.Event()
    memory, source = device.allocate(8, "a test"), np.arange(8, dtype=np.uint8)
    stream.put(gate.wait)
    device.copy_in(memory.address, source, stream)
    source[:] = 7  # changed before the copy, like a pinned buffer that is reused too early
    gate.set()
    stream.synchronize()
    np.testing.assert_array_equal(view(memory.address, (8,), "uint8"), 7)
    memory.free()


def test_a_graph_replays_addresses_and_not_values(device):
    stream, memory = device.stream(), device.allocate(4, "a test")
    source, result = np.zeros(4, np.uint8), np.zeros(4, np.uint8)

    def work():
        device.copy_in(memory.address, source, stream)
        device.copy_out(result, memory.address, stream)

    graph = device.capture(stream, work)
    stream.synchronize()
    assert graph.nodes == 2
    for value in (3, 5):
        source[:] = value
        graph.launch(stream)
        stream.synchronize()
        np.testing.assert_array_equal(result, value)
    memory.free()


def test_waiting_inside_a_capture_is_an_error_and_leaves_the_stream_usable(device):
    stream = device.stream()
    with pytest.raises(BackendError, match="while a graph was captured"):
        device.capture(stream, stream.synchronize)
    stream.synchronize()


def test_an_event_completes_only_when_its_stream_reaches_it(device):
    stream, gate, event = device.stream(), threading.Event(), device.event()
    stream.put(gate.wait)
    event.record(stream)
    waited = threading.Thread(target=event.synchronize)
    waited.start()
    assert waited.is_alive()
    gate.set()
    waited.join(10)
    assert not waited.is_alive()


def test_errors_of_a_stream_are_raised_by_synchronize(device):
    stream = device.stream()
    stream.put(lambda: 1 / 0)
    for _ in range(2):
        with pytest.raises(BackendError, match="division by zero"):
            stream.synchronize()


def test_kernels_run_on_their_stream(device):
    stream, gate = device.stream(), threading.Event()
    memory = device.allocate(4 * 3 * 8, "a test")
    stream.put(gate.wait)
    device.kernels.fill_normals(memory.address, 1, 3, 8, 5, 0, stream.handle)
    values = view(memory.address, (3, 8), "float32")
    assert not values.any()
    gate.set()
    stream.synchronize()
    assert (values != 0).all()
    memory.free()
