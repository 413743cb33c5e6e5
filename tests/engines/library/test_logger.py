"""What the library says becomes one line with what to do."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import pytest
from recording_tensorrt import VERSIONS, RecordingTensorRT

from leakrt.engines.library.logger import Messages, construct, explain, listening, shared_logger

ERROR, WARNING, INFO = 1, 2, 3
LIMIT = 60  # seconds, for what takes one when it does not hang

# Each hung with a logger an engine: the second wherever the first's object was freed while the second's was made.
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
        [[] for _ in range(5000)]  # enough for a collection, unless there is none
        super().add(*args, **options)

other, ours = Other(), shared_logger(trt)
user = trt.Runtime(other)  # another library of this process, with a logger of its own
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
def test_out_of_memory_says_how_much_was_wanted(text, amount):
    assert explain([text]) == f"out of GPU memory{amount}; use a smaller --batch or --workspace, or stop other " \
        "processes that use the GPU"  # fmt: skip


def test_anything_else_is_the_first_error_in_one_line_and_bounded():
    assert explain(["first", "second"]) == "first"
    assert len(explain(["x" * 9000])) == 300
    assert explain([]) == "the library gave no reason"


def test_messages_are_bounded_counted_and_read_for_memory():
    messages = Messages()
    for index in range(1000):
        messages.add(ERROR, ERROR, WARNING, text=f"error {index}")
        messages.add(WARNING, ERROR, WARNING, text="the same\nwarning")
    for size in (5, 9, 7):
        messages.add(INFO, ERROR, WARNING, text=f"Total Activation Memory: {size} bytes")
    assert len(messages.errors) == 64
    assert dict(messages.warnings) == {"the same warning": 1000}
    assert messages.memory == {"activations": 9}


def test_threads_make_and_free_builders_and_runtimes_side_by_side(rtx):
    done = subprocess.run([sys.executable, "-c", THREADS], timeout=LIMIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("made", ["Builder", "Runtime"])
@pytest.mark.parametrize("left", ["Builder", "Runtime"])
def test_what_is_left_in_a_cycle_is_not_freed_while_another_is_made(rtx, left, made):
    done = subprocess.run([sys.executable, "-c", FOREIGN, left, made], timeout=LIMIT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_library_has_one_logger_and_who_listens_in_a_thread_has_its_words():
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


def test_what_a_library_says_in_a_thread_of_its_own_is_heard_by_those_who_listen():
    logger, messages = shared_logger(RecordingTensorRT(VERSIONS[-1])), Messages()
    with listening(messages):
        _in_a_thread(lambda: logger.log(ERROR, "from a worker"))
    assert messages.errors == ["from a worker"]


def test_a_constructor_that_gives_nothing_leaves_collection_as_it_was():
    def nothing(logger):
        assert not gc.isenabled()
        raise TypeError("no object")

    assert construct(nothing, None) is None
    assert gc.isenabled()


def _in_a_thread(work) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
