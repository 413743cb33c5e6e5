"""Assignment of jobs to slots, with results in the order of the jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

S = TypeVar("S")
J = TypeVar("J")


class Ring(Generic[S, J]):
    """Slots, some of them busy with a job. Not thread-safe: for one thread."""

    def __init__(self, slots: Sequence[S]) -> None:
        """Raises ValueError without slots."""
        if not slots:
            raise ValueError("a ring needs at least one slot")
        self._free: deque[S] = deque(slots)
        self._busy: deque[tuple[S, J]] = deque()

    @property
    def has_free(self) -> bool:
        """Whether a slot is free."""
        return bool(self._free)

    @property
    def busy(self) -> int:
        """Number of busy slots."""
        return len(self._busy)

    def begin(self, job: J) -> S:
        """Assign the job to the slot that has been free longest and return it. Raises IndexError if none is free."""
        slot = self._free.popleft()
        self._busy.append((slot, job))
        return slot

    def drop_newest(self) -> None:
        """Undo the last `begin`, for a job that failed to start."""
        slot, _ = self._busy.pop()
        self._free.append(slot)

    def oldest(self) -> tuple[S, J]:
        """Return the slot and job that began first. Raises IndexError if no slot is busy."""
        return self._busy[0]

    def end_oldest(self) -> None:
        """Free the slot of the oldest job."""
        slot, _ = self._busy.popleft()
        self._free.append(slot)
