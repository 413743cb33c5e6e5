"""The hand-over of jobs to the thread that does them: order, room, and an end that needs none."""

from __future__ import annotations

import queue
import threading

import pytest

from leakrt.runtime.backends.tensorrt.jobs import Jobs


def test_jobs_come_out_in_order_and_then_the_end():
    jobs = Jobs(3)
    for job in "abc":
        jobs.put(job)
    jobs.end()  # though there is no room for a fourth job
    assert [jobs.take(wait=True) for _ in range(4)] == ["a", "b", "c", None]


def test_with_no_job_who_does_not_wait_is_told_so():
    jobs = Jobs(1)
    with pytest.raises(queue.Empty):
        jobs.take(wait=False)


def test_who_puts_too_much_waits_until_a_job_is_taken_and_not_a_moment_longer():
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


def test_the_end_gives_nobody_room():
    jobs = Jobs(1)
    jobs.put("a")
    jobs.end()
    assert jobs.take(wait=True) == "a"
    assert jobs.take(wait=True) is None
    jobs.put("b")  # the room that "a" gave back
    late = threading.Thread(target=jobs.put, args=("c",), daemon=True)
    late.start()
    late.join(0.2)
    assert late.is_alive()
    jobs.take(wait=True)
    late.join(10)
    assert not late.is_alive()
