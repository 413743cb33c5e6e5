"""A bounded job queue for one consumer thread."""

from __future__ import annotations

import queue
from typing import Generic, TypeVar

J = TypeVar("J")


class Jobs(Generic[J]):
    """A bounded first-in, first-out queue for any number of producers and one consumer.

    Uses two `SimpleQueue`s, one of jobs and one of free places, so that each transfer wakes a thread once.
    `queue.Queue` wakes the consumer while it still holds the lock that the consumer needs next.
    """

    def __init__(self, capacity: int) -> None:
        """`capacity`: how many jobs may wait."""
        self._jobs: queue.SimpleQueue[J | None] = queue.SimpleQueue()
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(capacity):
            self._places.put(None)

    def put(self, job: J) -> None:
        """Add a job; blocks while the queue is full."""
        self._places.get()
        self._jobs.put(job)

    def end(self) -> None:
        """Add the end marker; never blocks."""
        self._jobs.put(None)

    def take(self, wait: bool) -> J | None:
        """Remove and return the oldest job, or None for an end marker. Raises `queue.Empty` if not `wait` and empty."""
        job = self._jobs.get(block=wait)
        if job is not None:
            self._places.put(None)
        return job
