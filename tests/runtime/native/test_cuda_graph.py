"""Graphs and events of leakrt._cuda on a GPU, with torch's memory and streams."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch holds the memory")
_cuda = pytest.importorskip("leakrt._cuda", reason="LeakRT was built without a CUDA toolkit")

from leakrt import _core
from leakrt.core.errors import BackendError

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
COEFFICIENTS = np.float32([[0.5, 2.0], [3.0, 0.25]])
ELEMENTS = 4 * 9 * 7


@pytest.fixture
def stream():
    opened = torch.cuda.Stream()
    with torch.cuda.stream(opened):
        yield opened
    opened.synchronize()


class Noising:
    """Two latents and a bank on the device, and the expected noised steps."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.bank = rng.standard_normal((1, 2, ELEMENTS), np.float32)
        self.z, self.eps = torch.zeros((2, ELEMENTS), device="cuda"), torch.from_numpy(self.bank).cuda()
        self.u = torch.full((2, 2, ELEMENTS), 7.0, device="cuda")

    def launch(self, handle: int) -> None:
        addresses = self.z.data_ptr(), "float32", self.eps.data_ptr(), COEFFICIENTS, self.u.data_ptr(), "float32"
        _cuda.noise_steps(*addresses, 2, 1, ELEMENTS, handle)

    def feed(self, seed: int) -> np.ndarray:
        """Set new latents, run `launch` and compare with the expected steps."""
        latents = np.random.default_rng(seed).standard_normal((2, ELEMENTS), np.float32)
        self.z.copy_(torch.from_numpy(latents))
        shaped = latents.reshape(2, 1, 1, ELEMENTS), self.bank.reshape(1, 2, 1, 1, ELEMENTS)
        return _core.noise_steps(*shaped, COEFFICIENTS).reshape(2, 2, ELEMENTS)


@pytest.fixture
def noising(stream):
    made = Noising()
    stream.synchronize()
    return made


def captured(stream, work) -> int:
    _cuda.begin_capture(stream.cuda_stream)
    work()
    return _cuda.end_capture(stream.cuda_stream)


def test_a_graph_computes_again_at_every_launch(stream, noising):
    noising.launch(stream.cuda_stream)
    graph = captured(stream, lambda: noising.launch(stream.cuda_stream))
    assert _cuda.graph_nodes(graph) == 1
    for seed in (1, 2):
        wanted = noising.feed(seed)
        _cuda.launch_graph(graph, stream.cuda_stream)
        np.testing.assert_array_equal(noising.u.cpu().numpy(), wanted)
    _cuda.destroy_graph(graph)


def test_events_inside_a_graph_keep_the_time_of_each_launch(stream, noising):
    events = [_cuda.create_event() for _ in range(3)]
    handle = stream.cuda_stream

    def work():
        _cuda.record_event(events[0], handle)
        noising.launch(handle)
        _cuda.record_event(events[1], handle)

    work()
    graph = captured(stream, work)
    assert _cuda.graph_nodes(graph) == 3
    seen = []
    for _ in range(5):
        _cuda.launch_graph(graph, handle)
        _cuda.record_event(events[2], handle)
        _cuda.synchronize_event(events[2])
        seen.append(_cuda.event_milliseconds(events[0], events[1]))
        assert 0 < seen[-1] < 10
        assert _cuda.event_milliseconds(events[1], events[2]) >= 0
    _cuda.destroy_graph(graph)
    for event in events:
        _cuda.destroy_event(event)


def test_an_abandoned_capture_leaves_the_stream_usable(stream, noising):
    _cuda.begin_capture(stream.cuda_stream)
    noising.launch(stream.cuda_stream)
    _cuda.abandon_capture(stream.cuda_stream)
    wanted = noising.feed(3)
    noising.launch(stream.cuda_stream)
    np.testing.assert_array_equal(noising.u.cpu().numpy(), wanted)


def test_a_second_capture_on_a_stream_is_refused_in_one_line(stream, noising):
    _cuda.begin_capture(stream.cuda_stream)
    with pytest.raises(BackendError, match="beginning a CUDA graph failed: cuda") as error:
        _cuda.begin_capture(stream.cuda_stream)
    assert "\n" not in str(error.value)
    _cuda.abandon_capture(stream.cuda_stream)
    wanted = noising.feed(4)
    noising.launch(stream.cuda_stream)
    np.testing.assert_array_equal(noising.u.cpu().numpy(), wanted)


def test_the_kernels_are_those_of_this_gpu_and_spill_nothing():
    major, minor = torch.cuda.get_device_capability()
    assert _cuda.architectures() == "native" or f"{major}{minor}-real" in _cuda.architectures().split()
    for name, registers, local, threads in _cuda.noise_kernel_info():
        assert 0 < registers <= 128, name
        assert (local, threads) == (0, 128), name


def test_an_invalid_address_raises_a_one_line_error(tmp_path):
    """In a subprocess, because a failed device stays unusable."""
    import subprocess
    import sys

    code = (
        "import numpy as np, torch\n"
        "from leakrt import _cuda\n"
        "from leakrt.core.errors import BackendError\n"
        "torch.zeros(1, device='cuda')\n"
        "try:\n"
        "    _cuda.fill_normals(1 << 20, 1, 1, 64, 0, 0, 0)\n"
        "    event = _cuda.create_event(); _cuda.record_event(event, 0); _cuda.synchronize_event(event)\n"
        "except BackendError as error:\n"
        "    print(str(error))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1, done.stderr[-500:]
    assert "failed: cudaErrorIllegalAddress" in lines[0]
