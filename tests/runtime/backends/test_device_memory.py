"""Alignment of device memory, and the message when it runs out."""

from __future__ import annotations

import pytest

from leakrt.core.errors import BackendError
from leakrt.runtime.backends.device_memory import ALIGNMENT, OutOfMemoryError, aligned


@pytest.mark.parametrize(("size", "rounded"), [(0, 0), (1, 256), (256, 256), (257, 512), (3 << 40, 3 << 40)])
def test_sizes_are_rounded_up_to_the_alignment(size, rounded):
    assert aligned(size) == rounded
    assert aligned(size) % ALIGNMENT == 0


@pytest.mark.parametrize(
    ("wanted", "free", "said"),
    [
        (3 << 20, 1 << 20, " while allocating 3.0 MiB for the images (1.0 MiB are free);"),
        (1, None, " while allocating 0.0 MiB for the images;"),
        (3 << 20, 0, " while allocating 3.0 MiB for the images (0.0 MiB are free);"),
        ((100 << 20) - (1 << 19), 200 << 20, " while allocating 99.5 MiB for the images (200 MiB are free);"),
        (100 << 20, None, " while allocating 100 MiB for the images;"),
        (0, None, " while allocating for the images;"),
    ],
)
def test_out_of_memory_names_the_request_and_the_free_memory(wanted, free, said):
    error = OutOfMemoryError(wanted, "the images", free=free)
    assert str(error) == f"out of GPU memory{said} use a smaller batch, or end other processes on the GPU"
    assert (error.wanted, error.what) == (wanted, "the images")
    assert isinstance(error, BackendError)
