"""What the library says becomes one line with what to do."""

from __future__ import annotations

import pytest

from leakrt.engines.logger import Messages, explain

ERROR, WARNING, INFO = 1, 2, 3


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)", ": 1024 MiB were wanted"),
        ("Requested amount of GPU memory (2147483648 bytes) could not be allocated.", ": 2048 MiB were wanted"),
        ("[defaultAllocator.cpp::allocate::19] Cuda Runtime (out of memory)", ""),
    ],
)
def test_out_of_memory_says_how_much_was_wanted(text, amount):
    assert explain([text]) == f"out of GPU memory{amount}; use a smaller --batch or --workspace, or end what else " \
        "uses the GPU"  # fmt: skip


def test_anything_else_is_the_first_error_in_one_line_and_bounded():
    assert explain(["first", "second"]) == "first"
    assert len(explain(["x" * 9000])) == 300
    assert explain([]) == "the library gave no reason"


def test_messages_are_bounded_counted_and_read_for_memory():
    messages = Messages()
    for index in range(1000):
        messages.add(ERROR, ERROR, WARNING, f"error {index}")
        messages.add(WARNING, ERROR, WARNING, "the same\nwarning")
    for size in (5, 9, 7):
        messages.add(INFO, ERROR, WARNING, f"Total Activation Memory: {size} bytes")
    assert len(messages.errors) == 64
    assert dict(messages.warnings) == {"the same warning": 1000}
    assert messages.memory == {"activations": 9}
