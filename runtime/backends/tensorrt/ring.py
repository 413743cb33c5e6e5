"""Which slot is next, and which result: slots are taken in turn and give their results in the order of the jobs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

S = TypeVar("S")
J = TypeVar("J")


class Ring(Generic[S, J]):
    """Slots, of which some are busy with a job. No lock: one thread looks after it."""

    def __init__(self, slots: Sequence[S]) -> None:
        """Raises ValueError for no slot at all."""
        if not slots:
            raise ValueError("a ring needs a slot")
        self._free: deque[S] = deque(slots)
        self._busy: deque[tuple[S, J]] = deque()

    @property
    def has_free(self) -> bool:
        """Whether a job can begin."""
        return bool(self._free)

    @property
    def busy(self) -> int:
        """Jobs that have begun and have not been taken out."""
        return len(self._busy)

    def begin(self, job: J) -> S:
        """Give the slot that has been free for longest a job. Raises IndexError when none is free."""
        slot = self._free.popleft()
        self._busy.append((slot, job))
        return slot

    def drop_newest(self) -> None:
        """The job that began last did not begin after all: its slot is free."""
        slot, _ = self._busy.pop()
        self._free.append(slot)

    def oldest(self) -> tuple[S, J]:
        """The job that began first, and its slot. Raises IndexError when nothing is busy."""
        return self._busy[0]

    def end_oldest(self) -> None:
        """The oldest job's result was taken out: its slot is free."""
        slot, _ = self._busy.popleft()
        self._free.append(slot)
