"""Jobs: order, capacity and the end marker."""

from __future__ import annotations

import queue
import threading

import pytest

from leakrt.runtime.backends.tensorrt.jobs import Jobs


def test_jobs_are_taken_in_order_and_then_the_end():
    jobs = Jobs(3)
    for job in "abc":
        jobs.put(job)
    jobs.end()  # although the queue is full
    assert [jobs.take(wait=True) for _ in range(4)] == ["a", "b", "c", None]


def test_taking_without_waiting_from_an_empty_queue_raises():
    jobs = Jobs(1)
    with pytest.raises(queue.Empty):
        jobs.take(wait=False)


def test_put_blocks_until_a_job_is_taken():
    jobs, put = Jobs(2), threading.Semaphore(0)

    def work():
        for number in range(6):
            jobs.put(number)
            put.release()

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(2):
        assert put.acquire(timeout=10)
    assert not put.acquire(timeout=0.2)
    for number in range(4):
        assert jobs.take(wait=True) == number
        assert put.acquire(timeout=10)
    assert not put.acquire(timeout=0.05)
    thread.join(10)
    assert [jobs.take(wait=False) for _ in range(2)] == [4, 5]


def test_taking_the_end_frees_no_place():
    jobs = Jobs(1)
    jobs.put("a")
    jobs.end()
    assert jobs.take(wait=True) == "a"
    assert jobs.take(wait=True) is None
    jobs.put("b")  # uses the place that "a" freed
    late = threading.Thread(target=jobs.put, args=("c",), daemon=True)
    late.start()
    late.join(0.2)
    assert late.is_alive()
    jobs.take(wait=True)
    late.join(10)
    assert not late.is_alive()
