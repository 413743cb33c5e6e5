"""JSON values are checked against the annotations of a dataclass."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from leakrt.core.fields import mistyped


@dataclass
class Example:
    count: int
    share: float
    on: bool
    name: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    versions: dict[str, str]
    counts: dict[str, dict[str, int]]
    other: Example | None


GOOD = {
    "count": 10**400,
    "share": 3,
    "on": False,
    "name": "",
    "names": (),
    "sizes": (1, -2),
    "versions": {"a": "1"},
    "counts": {"train": {"real": 3}, "val": {}},
    "other": object(),
}


def test_values_of_the_stated_types_pass_and_unknown_types_are_not_checked():
    assert mistyped(Example, GOOD) == []
    assert mistyped(Example, {}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("count", True),
        ("count", 1.0),
        ("count", None),
        ("share", True),
        ("share", "1"),
        ("share", 10**400),  # too large for a float
        ("on", 1),
        ("name", 3),
        ("names", ["a"]),
        ("names", (1,)),
        ("sizes", (1.5,)),
        ("sizes", (True,)),
        ("versions", []),
        ("versions", {"a": 1}),
        ("counts", {"train": 3}),
        ("counts", {"train": {"real": "3"}}),
    ],
)
def test_a_value_of_another_type_is_named_with_the_expected_type(name, value):
    wanted = {"names": "tuple[str, ...]", "sizes": "tuple[int, ...]"}
    wanted |= {"versions": "dict[str, str]", "counts": "dict[str, dict[str, int]]"}
    wanted |= {"count": "int", "share": "float", "on": "bool", "name": "str"}
    assert mistyped(Example, GOOD | {name: value}) == [f"{name} is not of type {wanted[name]}"]
