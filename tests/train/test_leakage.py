"""Leakage: one picture under two labels, in two splits, or among those that were trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leakrt.core.errors import BundleError, DataError, ImageError
from leakrt.train.fingerprints import Fingerprint, Identity
from leakrt.train.leakage import (
    Labelled,
    Seen,
    TrainingRecord,
    across_splits,
    alike_notes,
    refuse_two_labels,
    repeated_message,
    seen_files,
)


def shown(number: int, look: int | None = None) -> Fingerprint:
    """A fingerprint with this number as its pixels; looks with different numbers are far apart."""
    bits = np.random.default_rng(number if look is None else look).integers(0, 256, 32, dtype=np.uint8)
    return Fingerprint(pixels=f"{number:064x}"[::-1], look=bits.tobytes().hex())


def picture(name: str, number: int, split: str = "train", label: str = "real", look: int | None = None) -> Labelled:
    return Labelled(path=Path(name), label=label, split=split, fingerprint=shown(number, look))


def identity(number: int, look: int | None = None) -> Identity:
    return Identity(digest=f"{number:064d}", fingerprint=shown(number, look))


def test_one_picture_under_two_labels_names_both_files():
    pictures = [picture("a.png", 1), picture("b.png", 2), picture("c.bmp", 1, label="fake", split="test")]
    with pytest.raises(DataError, match=r"^1 picture is under two labels: a.png \(real\) = c.bmp \(fake\); remove"):
        refuse_two_labels(pictures)
    refuse_two_labels(pictures[:2])


def test_of_many_pairs_three_are_named():
    pictures = [picture(f"{i}.png", i // 2, label=f"c{i % 2}") for i in range(10)]
    with pytest.raises(DataError, match=r"^5 pictures are under two labels: .*; and 2 more; remove the wrong ones$"):
        refuse_two_labels(pictures)


def test_a_picture_of_a_later_split_is_found_in_the_earlier_one():
    pictures = [
        picture("test.png", 1, "test"),
        picture("val.png", 1, "val"),
        picture("train.png", 2),
        picture("again.png", 2),
        picture("also.png", 2, "val"),
        picture("own.png", 3, "test"),
    ]
    found = across_splits(pictures)
    assert {i: other.path.name for i, other in found.items()} == {0: "val.png", 4: "train.png"}
    assert repeated_message(pictures, {0: found[0]}) == "1 picture is in two splits: test.png (test) = val.png (val)"


def test_pictures_that_look_alike_across_splits_are_noted_and_within_one_are_not():
    train = [picture("a.png", 1, look=7), picture("b.png", 2, label="fake", look=7)]
    assert list(alike_notes(train)) == []
    (note,) = alike_notes([*train, picture("c.png", 3, "val", look=7), picture("d.png", 4, "val", look=9)])
    assert note.startswith("1 images of val look like images of an earlier split: c.png and a.png (train)")


def test_a_record_knows_its_pictures_and_their_copies():
    record = TrainingRecord.from_bytes(TrainingRecord.of([shown(1), shown(2)]).to_bytes())
    seen = record.seen([identity(1), identity(5), ImageError("unreadable"), identity(6, look=2)])
    assert seen == Seen(same=(0,), alike=(3,))
    assert seen.part(1, 4) == Seen(same=(), alike=(3,))
    assert record.seen([]) == Seen(same=(), alike=())
    assert TrainingRecord.of([]).seen([identity(1)]) == Seen(same=(), alike=())


def test_the_note_counts_what_was_seen():
    assert Seen(same=(), alike=()).note("these images") is None
    assert Seen(same=(1, 2), alike=(3,)).note("these images") == (
        "the detector was trained or fitted on 2 of these images and on re-encoded or resized copies of 1 of them; "
        "the results will be optimistic"
    )
    assert "on re-encoded or resized copies of 1 of the open images;" in str(
        Seen(same=(), alike=(3,)).note("the open images")
    )


def test_without_a_record_of_pictures_files_are_compared():
    assert seen_files([identity(1), identity(2), ImageError("x")], {f"{2:064d}"}).same == (1,)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"pixels": np.zeros(2, np.uint64)},
        {"pixels": np.zeros(2, np.uint64), "looks": np.zeros((3, 32), np.uint8)},
        {"pixels": np.zeros(2, np.int64), "looks": np.zeros((2, 32), np.uint8)},
    ],
)
def test_a_broken_record_is_refused(arrays):
    from leakrt.core.arrays import write_npz

    with pytest.raises(BundleError, match=r"^training\.npz"):
        TrainingRecord.from_bytes(write_npz(arrays))
