"""Options that several verbs have."""

from __future__ import annotations

import pytest

from leakrt.cli.options import numbers
from leakrt.core.errors import UsageError


def test_numbers_stand_between_commas_with_or_without_spaces():
    assert numbers("1, 4,16", "--batch", "1,4") == (1, 4, 16)


@pytest.mark.parametrize("text", ["", "1,,4", "1,", "two", "1.5", "1 4"])
def test_anything_else_is_refused_with_an_example(text):
    with pytest.raises(
        UsageError, match=r"^--batch .*: not a list of integers; separate integers with commas, such as 1,4$"
    ):
        numbers(text, "--batch", "1,4")
