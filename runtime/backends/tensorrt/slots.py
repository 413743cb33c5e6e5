"""How much fits into memory: fewer batch sizes, then fewer slots, before giving up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ..device_memory import OutOfMemoryError


class Closable(Protocol):
    """Something that holds memory until it is closed."""

    def close(self) -> None: ...


S = TypeVar("S", bound=Closable)


def fill_slots(
    make: Callable[[tuple[int, ...]], S], batches: Sequence[int], slots: int
) -> tuple[list[S], tuple[int, ...], list[str]]:
    """Make up to `slots` slots for `batches`: what was made, for which batch sizes, and notes on what was not.

    Where memory runs out, the first slot gives up its largest batch sizes one by one; later slots, which must be like
    the first, are done without. Raises OutOfMemoryError when not even the smallest batch fits, and what `make` raises;
    nothing is held then.
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
                    notes.append(f"{len(made)} of {slots} slots fit, so copies overlap less: {error}")
                    break
                if len(left) == 1:
                    raise
                notes.append(f"batch {left[-1]} does not fit, so the largest is {left[-2]}: {error}")
                left = left[:-1]
    except BaseException:
        for slot in made:
            slot.close()
        raise
    return made, left, notes


def batch_for(count: int, batches: Sequence[int]) -> int:
    """The batch size to take `count` images in: the smallest that holds them, else the largest."""
    return min((batch for batch in batches if batch >= count), default=max(batches))
