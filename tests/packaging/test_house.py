"""The rules of the house that a script can check."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import house


def test_no_folder_imports_a_later_one():
    assert list(house.backward_imports()) == []


def test_a_class_name_has_one_meaning():
    assert house.repeated_classes() == {}


def test_what_comes_after_three_parameters_is_keyword_only():
    assert list(house.long_signatures()) == []


def test_every_folder_of_the_package_is_in_the_order():
    root = Path(house.ROOT)
    assert {path.parent.name for path in root.glob("*/__init__.py")} - {"tests", "benchmarks"} == set(house.ORDER)
