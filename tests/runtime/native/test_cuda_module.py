"""leakrt._cuda on a machine without a driver."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from leakrt import _grid
from leakrt.core.errors import BackendError

_cuda = pytest.importorskip("leakrt._cuda", reason="LeakRT was built without a CUDA toolkit")
ARRAY = np.zeros((3, 2), np.float32)
no_driver = pytest.mark.skipif(_cuda.driver_version() != 0, reason="there is a driver here")


def test_importing_it_loads_no_driver_and_no_cuda_library():
    script = (
        "from pathlib import Path\n"
        "from leakrt import _cuda\n"
        "print([l.split()[-1] for l in Path('/proc/self/maps').read_text().splitlines() if 'libcuda' in l])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@no_driver
@pytest.mark.parametrize(
    "call",
    [
        lambda: _cuda.noise_steps(256, "float16", 256, ARRAY, 256, "float16", 1, 1, 64),
        lambda: _cuda.noise_steps_fresh(256, "float32", ARRAY, 256, "float32", 1, 1, 64, 5, 256),
        lambda: _cuda.fill_normals(256, 1, 3, 64, 5, 0),
        lambda: _cuda.preprocess([(256, 9, 8, 24)], 8, 256, "float16"),
        lambda: _cuda.kde_log_density(256, 1, 256, 5, 3, 0.5, 256, 256),
        lambda: _cuda.begin_capture(0),
        lambda: _cuda.end_capture(0),
        lambda: _cuda.launch_graph(64, 0),
        lambda: _cuda.record_event(64, 0),
        lambda: _cuda.create_event(),
        lambda: _cuda.synchronize_event(64),
        lambda: _cuda.noise_kernel_info(),
    ],
)
def test_without_a_driver_every_call_raises_a_one_line_error(call):
    with pytest.raises(BackendError, match="no NVIDIA driver here; install the driver") as error:
        call()
    assert "\n" not in str(error.value)


@no_driver
def test_without_a_driver_a_capture_can_still_be_abandoned():
    for stream in (0, 64):  # used in error handling, where a second error must not hide the first
        assert _cuda.abandon_capture(stream) is None
    with pytest.raises(BackendError, match="no NVIDIA driver here"):
        _cuda.begin_capture(0)


def test_it_reports_its_architectures_and_toolkit():
    assert "-" in _cuda.architectures() or _cuda.architectures() == "native"
    assert _cuda.toolkit_version() >= 11000


def test_it_has_the_functions_of_its_host_version():
    twin = {name for name in dir(_grid) if name[0] != "_"} - {"faulty", "to_half", "from_half"}
    assert twin <= set(dir(_cuda))


def test_sizes_are_checked_before_driver_calls():
    with pytest.raises(ValueError, match="out_type is bfloat16"):
        _cuda.preprocess([(256, 9, 8, 24)], 8, 256, "bfloat16")
