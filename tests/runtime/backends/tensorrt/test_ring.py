"""Ring: slots in turn, results in order."""

from __future__ import annotations

import pytest

from leakrt.runtime.backends.tensorrt.ring import Ring


def test_slots_are_taken_in_turn():
    ring: Ring[str, int] = Ring("abc")
    assert [ring.begin(i) for i in range(3)] == ["a", "b", "c"]
    assert not ring.has_free


def test_results_come_in_the_order_of_the_jobs():
    ring: Ring[str, int] = Ring("ab")
    given = []
    for job in range(7):
        if not ring.has_free:
            given.append(ring.oldest()[1])
            ring.end_oldest()
        ring.begin(job)
    while ring.busy:
        given.append(ring.oldest()[1])
        ring.end_oldest()
    assert given == list(range(7))


def test_a_busy_slot_is_not_assigned():
    ring: Ring[str, int] = Ring("ab")
    ring.begin(0)
    ring.begin(1)
    with pytest.raises(IndexError):
        ring.begin(2)
    ring.end_oldest()
    assert ring.begin(2) == "a"


def test_a_job_that_failed_to_begin_frees_its_slot():
    ring: Ring[str, int] = Ring("ab")
    ring.begin(0)
    assert ring.begin(1) == "b"
    ring.drop_newest()
    assert ring.oldest() == ("a", 0)
    assert ring.begin(2) == "b"


def test_a_ring_without_slots_is_refused():
    with pytest.raises(ValueError, match="a ring needs at least one slot"):
        Ring([])
