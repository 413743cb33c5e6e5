"""What `fill_slots` drops when memory runs out, and in which order."""

from __future__ import annotations

import pytest

from leakrt.core.errors import BackendError
from leakrt.runtime.backends.device_memory import OutOfMemoryError
from leakrt.runtime.backends.tensorrt.slots import batch_for, fill_slots


class Card:
    """Memory for a number of images over all slots."""

    def __init__(self, room: int) -> None:
        self.room, self.open = room, 0

    def slot(self, batches: tuple[int, ...]):
        need = max(batches)
        if need > self.room:
            raise OutOfMemoryError(need << 20, f"a batch of {need}", free=self.room << 20)
        self.room -= need
        self.open += 1
        return Slot(self, need)


class Slot:
    def __init__(self, card: Card, held: int) -> None:
        self._card, self._held = card, held

    def close(self) -> None:
        self._card.room += self._held
        self._card.open -= 1


def test_everything_fits():
    made, batches, notes = fill_slots(Card(100).slot, (1, 4, 16), 3)
    assert (len(made), batches, notes) == (3, (1, 4, 16), [])


def test_the_first_slot_drops_its_largest_batches():
    card = Card(9)
    made, batches, notes = fill_slots(card.slot, (16, 1, 4), 2)
    assert (len(made), batches) == (2, (1, 4))
    assert notes == [
        "batch 16 does not fit into memory, so the largest is 4: out of GPU memory while allocating 16.0 MiB for a "
        "batch of 16 (9.0 MiB are free); use a smaller batch, or end other processes on the GPU"
    ]


def test_later_slots_that_do_not_fit_are_omitted():
    made, batches, notes = fill_slots(Card(9).slot, (4,), 3)
    assert (len(made), batches) == (2, (4,))
    assert notes[0].startswith("2 of 3 slots fit into memory")


def test_if_the_smallest_batch_does_not_fit_the_error_names_the_request():
    with pytest.raises(BackendError, match=r"allocating 4\.0 MiB for a batch of 4 \(3\.0 MiB are free\)"):
        fill_slots(Card(3).slot, (4, 8), 2)


def test_another_error_closes_the_slots():
    card = Card(100)

    def make(batches):
        if card.open == 2:
            raise BackendError("broken")
        return card.slot(batches)

    with pytest.raises(BackendError, match="broken"):
        fill_slots(make, (4,), 3)
    assert (card.open, card.room) == (0, 100)


@pytest.mark.parametrize(("count", "batch"), [(1, 1), (2, 4), (4, 4), (5, 16), (16, 16), (17, 16)])
def test_the_batch_is_the_smallest_that_holds_the_images(count, batch):
    assert batch_for(count, (16, 1, 4)) == batch
