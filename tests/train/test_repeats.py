"""Duplicate pictures in a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from leakrt.core.errors import DataError
from leakrt.train.contents import Content
from leakrt.train.repeats import Picture, likeness_notes, refuse_two_labels, repeat_notes, repeats


def picture(name: str, split: str, pixels: int, look: int = 0) -> Picture:
    content = Content(f"{pixels:064x}", f"{look:064x}" if look else "")
    return Picture(path=Path(name), label="real", content=content, split=split)


def test_a_picture_belongs_to_the_earliest_of_its_splits():
    found = [picture(f"{i}", split, pixels) for i, (split, pixels) in enumerate(
        [("test", 1), ("val", 1), ("train", 1), ("train", 1), ("test", 2), ("val", 2), ("test", 3)]
    )]  # fmt: skip
    again = repeats(found)
    assert again == {0: "train", 1: "train", 4: "val"}
    left_out, notes = repeat_notes(found, again)
    assert [one.path.name for one in left_out] == ["0", "1", "4"]
    assert notes[-1] == "left out of test: 1 of its images, whose pixels are also in val (4)"


def test_likeness_is_noted_between_splits_and_not_within_one():
    look = 2**200 - 1
    within = [picture("a", "train", 1, look), picture("b", "train", 2, look), picture("c", "test", 3, 2**255 - 1)]
    assert likeness_notes(within) == []
    (note,) = likeness_notes([*within, picture("d", "val", 4, look ^ 0b1011)])
    assert note == "1 images of val look the same as images of train (d as a); the results on val will be optimistic"


def test_two_labels_of_one_picture_are_refused_with_the_number_of_others():
    paths = [Path(name) for name in "abcd"]
    contents = [Content(pixels * 64, "") for pixels in "1122"]
    refuse_two_labels(paths, ["real", "real", "gan", "gan"], contents)
    with pytest.raises(DataError, match=r"^a of class real and b of class gan are the same picture \(1 more such"):
        refuse_two_labels(paths, ["real", "gan", "gan", "real"], contents)
