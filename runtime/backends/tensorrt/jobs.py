"""Jobs on their way to the thread that does them: in order, and with room for a few, so that who is too fast waits."""

from __future__ import annotations

import queue
from typing import Generic, TypeVar

J = TypeVar("J")


class Jobs(Generic[J]):
    """A bounded queue for any number of threads that put and one that takes.

    Two `SimpleQueue`s, one of jobs and one of the room that is left: each hand-over wakes a thread once. `queue.Queue`
    wakes the taker while it still holds the lock that the taker needs next.
    """

    def __init__(self, room: int) -> None:
        """`room`: how many jobs may wait."""
        self._jobs: queue.SimpleQueue[J | None] = queue.SimpleQueue()
        self._room: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(room):
            self._room.put(None)

    def put(self, job: J) -> None:
        """Add a job; waits while there is no room."""
        self._room.get()
        self._jobs.put(job)

    def end(self) -> None:
        """Add the end, which needs no room: never waits."""
        self._jobs.put(None)

    def take(self, wait: bool) -> J | None:
        """The oldest job, None for an end. Raises `queue.Empty` when there is none and it is not waited for."""
        job = self._jobs.get(block=wait)
        if job is not None:
            self._room.put(None)
        return job
