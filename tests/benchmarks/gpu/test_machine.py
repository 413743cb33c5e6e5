"""What is written of a machine, with or without a GPU."""

from __future__ import annotations

import os
import platform


def test_a_machine_is_described_as_it_is(run_script):
    code, found = run_script("machine")
    assert (code, found["done"]) == (0, True)
    assert found["python"]["version"] == platform.python_version()
    assert found["packages"]["numpy"]
    assert found["cpu"]["cores"] == len(os.sched_getaffinity(0))
    assert {"gpu", "smi", "nvcc", "memory_kib", "kernel", "commit"} <= found.keys()
