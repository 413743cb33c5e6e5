"""Collecting library messages, and explaining a failure in one line."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest
from recording_tensorrt import VERSIONS, RecordingTensorRT

from leakrt.engines.library.logger import Messages, construct, explain, listening, shared_logger

ERROR, WARNING, INFO = 1, 2, 3
LIMIT = 60  # seconds; far more than the script needs unless it deadlocks

# Both scripts deadlock if every engine has its own logger.
THREADS = """
import sys, threading
from leakrt.engines.library.installed import load_flavour
from leakrt.engines.library.logger import Messages, construct, listening, shared_logger

sys.setswitchinterval(1e-6)
trt = load_flavour("tensorrt-rtx").trt

def work(first):
    kept = []
    for index in range(200):
        with listening(Messages()):
            kept.append(construct(trt.Builder if (first + index) % 2 else trt.Runtime, shared_logger(trt)))
        del kept[:-3]

threads = [threading.Thread(target=work, args=(first,)) for first in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
FOREIGN = """
import gc, sys
from leakrt.engines.library.installed import load_flavour
from leakrt.engines.library.logger import Messages, construct, listening, shared_logger

trt = load_flavour("tensorrt-rtx").trt
KINDS = {"Builder": trt.Builder, "Runtime": trt.Runtime}

class Other(trt.ILogger):
    def __init__(self):
        trt.ILogger.__init__(self)
    def log(self, severity, text):
        pass

class Cycle:
    def __init__(self, made):
        self.made, self.own = made, self

class Collecting(Messages):
    def add(self, *args, **options):
        [[] for _ in range(5000)]  # triggers a collection unless it is disabled
        super().add(*args, **options)

other, ours = Other(), shared_logger(trt)
user = trt.Runtime(other)  # other code in this process, with its own logger
gc.set_threshold(500)
for index in range(20):
    gc.disable()
    Cycle(KINDS[sys.argv[1]](other))
    gc.enable()
    with listening(Collecting()) as messages:
        assert construct(KINDS[sys.argv[2]], ours) is not None
    assert messages.warnings
"""


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)", ": 1024 MiB requested"),
        ("Requested amount of GPU memory (2147483648 bytes) could not be allocated.", ": 2048 MiB requested"),
        ("[defaultAllocator.cpp::allocate::19] Cuda Runtime (out of memory)", ""),
    ],
)
def test_out_of_memory_includes_the_requested_size(text, amount):
    assert explain([text]) == f"out of GPU memory{amount}; use a smaller --batch or --workspace, or stop other " \
        "processes that use the GPU"  # fmt: skip


def test_another_failure_is_its_first_error_truncated_to_one_line():
    assert explain(["first", "second"]) == "first"
    assert len(explain(["x" * 9000])) == 300
    assert explain([]) == "the library gave no reason"


def test_messages_are_bounded_and_counted_and_memory_is_parsed():
    messages = Messages()
    for index in range(1000):
        messages.add(ERROR, ERROR, WARNING, text=f"error {index}")
        messages.add(WARNING, ERROR, WARNING, text="the same\nwarning")
    for size in (5, 9, 7):
        messages.add(INFO, ERROR, WARNING, text=f"Total Activation Memory: {size} bytes")
    assert len(messages.errors) == 64
    assert dict(messages.warnings) == {"the same warning": 1000}
    assert messages.memory == {"activations": 9}


def test_threads_create_and_free_builders_and_runtimes_without_deadlock(rtx):
    done = subprocess.run([sys.executable, "-c", THREADS], timeout=LIMIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("made", ["Builder", "Runtime"])
@pytest.mark.parametrize("left", ["Builder", "Runtime"])
def test_garbage_is_not_collected_during_construction(rtx, left, made):
    done = subprocess.run([sys.executable, "-c", FOREIGN, left, made], timeout=LIMIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_library_has_one_logger_that_routes_messages_by_thread():
    trt = RecordingTensorRT(VERSIONS[-1])
    logger = shared_logger(trt)
    assert shared_logger(trt) is logger
    assert shared_logger(RecordingTensorRT(VERSIONS[-1])) is not logger
    outer, inner, elsewhere = Messages(), Messages(), Messages()

    def other() -> None:
        with listening(elsewhere):
            logger.log(ERROR, "elsewhere")

    with listening(outer):
        logger.log(ERROR, "before")
        with listening(inner):
            logger.log(ERROR, "inside")
            _in_a_thread(other)
        logger.log(ERROR, "after")
    logger.log(ERROR, "unheard")
    assert (outer.errors, inner.errors, elsewhere.errors) == (["before", "after"], ["inside"], ["elsewhere"])


def test_messages_from_a_library_thread_reach_all_listeners():
    logger, messages = shared_logger(RecordingTensorRT(VERSIONS[-1])), Messages()
    with listening(messages):
        _in_a_thread(lambda: logger.log(ERROR, "from a worker"))
    assert messages.errors == ["from a worker"]


def test_a_failed_constructor_restores_garbage_collection():
    def nothing(logger):
        assert not gc.isenabled()
        raise TypeError("no object")

    assert construct(nothing, None) is None
    assert gc.isenabled()


def _in_a_thread(work) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
