"""Reading ahead in a thread: bounded, in order, and stoppable at any time."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time

import pytest

from leakrt.runtime.read_ahead import ReadAhead


def same(item):
    return item


def alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "leakrt-prepare"]


def all_of(source, work=same, capacity=4, max_results=3, min_results=1):
    found = []
    with ReadAhead(iter(source), work, capacity) as ahead:
        while not ahead.ended:
            found += ahead.take(max_results, min_results)
    return found, ahead.error


@pytest.mark.parametrize("capacity", [1, 2, 16])
@pytest.mark.parametrize("count", [0, 1, 7, 40])
def test_results_come_in_order(capacity, count):
    assert all_of(range(count), lambda i: i * i, capacity) == ([i * i for i in range(count)], None)
    assert not alive()


def test_full_groups_are_waited_for_and_the_last_may_be_smaller():
    sizes = []
    with ReadAhead(iter(range(8)), same, 6) as ahead:
        while not ahead.ended:
            sizes.append(len(ahead.take(3, 3)))
    assert sizes == [3, 3, 2]


def test_ready_results_are_taken_without_waiting():
    go = threading.Event()

    def source():
        yield 1
        go.wait()
        yield 2

    with ReadAhead(source(), same, 4) as ahead:
        assert ahead.take(4, 1) == [1]
        assert ahead.take(4, 0) == []
        go.set()
        assert ahead.take(4, 1) == [2]
        assert ahead.take(4, 4) == []
        assert ahead.ended


@pytest.mark.parametrize("capacity", [1, 2, 5])
def test_reading_ahead_is_bounded(capacity):
    requested = []

    def source():
        for i in range(1000):
            requested.append(i)
            yield i

    with ReadAhead(source(), same, capacity) as ahead:
        for taken in range(1, 9):
            assert ahead.take(1, 1) == [taken - 1]
            time.sleep(0.01)
            assert len(requested) <= taken + capacity


def test_work_returns_before_the_next_item_is_requested():
    events = []

    def source():
        for i in range(5):
            events.append(("requested", i))
            yield i

    all_of(source(), lambda i: events.append(("worked", i)))
    assert events == [(what, i) for i in range(5) for what in ("requested", "worked")]


@pytest.mark.parametrize("where", ["source", "work"])
@pytest.mark.parametrize("error", [ValueError("x"), StopIteration(), MemoryError()])
def test_an_exception_follows_the_results_before_it(where, error):
    def fail(i):
        if i == 5:
            raise error
        return i

    class Source:
        def __init__(self):
            self.left = iter(range(9))

        def __iter__(self):
            return self

        def __next__(self):
            item = next(self.left)
            return fail(item) if where == "source" else item

    found, raised = all_of(Source(), fail, capacity=16)
    assert found == [0, 1, 2, 3, 4]
    assert raised is (None if where == "source" and isinstance(error, StopIteration) else error)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_base_exception_is_raised_immediately(error):
    def source():
        yield 1
        raise error

    with ReadAhead(source(), same, 4) as ahead:
        for thread in alive():
            thread.join()
        with pytest.raises(error):
            ahead.take(1, 1)


def test_exit_closes_a_generator_and_ends_the_thread():
    closed = []

    def source():
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    with ReadAhead(source(), same, 2) as ahead:
        ahead.take(1, 1)
    assert closed == ["leakrt-prepare"]
    assert not alive()
    ahead.close()


def test_a_source_that_raises_while_closing_is_logged(caplog):
    def source():
        try:
            while True:
                yield 0
        finally:
            raise OSError("unplugged")

    with caplog.at_level(logging.WARNING), ReadAhead(source(), same, 2) as ahead:
        ahead.take(1, 1)
    assert "the stream's source raised OSError while closing: unplugged; ignored" in caplog.text


def test_a_blocking_source_does_not_block_exit():
    go, closed = threading.Event(), threading.Event()

    def source():
        try:
            yield 0
            go.wait()
            yield 1
        finally:
            closed.set()

    with ReadAhead(source(), same, 2) as ahead:
        ahead.take(1, 1)
    assert alive()
    go.set()
    assert closed.wait(10)
    for thread in alive():
        thread.join(10)
    assert not alive()


def test_exit_waits_for_work_in_progress():
    done, begun = [], threading.Event()

    def slow(item):
        begun.set()
        time.sleep(0.8)
        done.append(item)

    with ReadAhead(iter([1]), slow, 2):
        begun.wait()
    assert done == [1]
    assert not alive()


def test_garbage_collection_stops_the_thread():
    ahead = ReadAhead(iter(int, 1), same, 2)
    ahead.take(1, 1)
    del ahead
    gc.collect()
    assert not alive()


@pytest.mark.parametrize("source", ["iter(lambda: time.sleep(600), 1)", "iter(int, 1)"])
def test_an_endless_source_does_not_block_interpreter_shutdown(source):
    code = f"import time\nfrom leakrt.runtime.read_ahead import ReadAhead\nheld = ReadAhead({source}, str, 2)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
