"""Fitting slots into GPU memory: drops the largest batch sizes, then slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ..device_memory import OutOfMemoryError


class Closable(Protocol):
    """An object that owns memory until it is closed."""

    def close(self) -> None: ...


S = TypeVar("S", bound=Closable)


def fill_slots(
    make: Callable[[tuple[int, ...]], S], batches: Sequence[int], slots: int
) -> tuple[list[S], tuple[int, ...], list[str]]:
    """Create up to `slots` slots. Returns the slots, their batch sizes, and notes on what did not fit.

    When memory runs out, the first slot drops its largest batch sizes one by one. Further slots have the same batch
    sizes as the first, and those that do not fit are omitted. Raises OutOfMemoryError if not even the smallest batch
    fits, and the errors of `make`, after closing the slots.
    """
    made: list[S] = []
    notes: list[str] = []
    left = tuple(sorted(set(batches)))
    try:
        while len(made) < slots:
            try:
                made.append(make(left))
            except OutOfMemoryError as error:
                if made:
                    notes.append(f"{len(made)} of {slots} slots fit into memory, so copies overlap less: {error}")
                    break
                if len(left) == 1:
                    raise
                notes.append(f"batch {left[-1]} does not fit into memory, so the largest is {left[-2]}: {error}")
                left = left[:-1]
    except BaseException:
        for slot in made:
            slot.close()
        raise
    return made, left, notes


def batch_for(count: int, batches: Sequence[int]) -> int:
    """Return the smallest batch size of at least `count` images, else the largest."""
    return min((batch for batch in batches if batch >= count), default=max(batches))
