"""The host version of the kernels detects wrong kernels."""

from __future__ import annotations

import cuda_twin as twin
import numpy as np
import pytest

from leakrt import _grid


def run(fault: str) -> np.ndarray:
    out = twin.Guarded((21,), "float32")
    return twin.both_orders(lambda order: _grid.faulty(fault, out.address, 21, order), out)


def test_a_correct_kernel_passes():
    np.testing.assert_array_equal(run(""), np.arange(21, dtype=np.float32))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("gap", "byte 12 of buffer 0 is not written"),
        ("read outside", "reads outside every buffer"),
        ("write outside", "writes outside every buffer"),
        ("write twice", "two writes to one byte, at byte 0"),
        ("unaligned", "reads unaligned memory"),
    ],
)
def test_a_wrong_access_is_detected(fault, message):
    with pytest.raises(RuntimeError, match=message):
        run(fault)


def test_a_race_is_visible_between_two_thread_orders():
    with pytest.raises(AssertionError, match="depends on the order of threads"):
        run("race")


def test_an_output_that_overlaps_an_input_is_detected():
    memory, c = np.zeros(64, np.float32), np.zeros((1, 2), np.float32)
    address = memory.ctypes.data
    with pytest.raises(RuntimeError, match="a thread writes to an input"):
        _grid.noise_steps(address, "float32", address, c, address, "float32", 2, 1, 8)
