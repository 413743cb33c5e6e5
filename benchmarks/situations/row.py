"""One line of the report of `benchmarks/inputs.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was tried in one situation, and what happened."""

    situation: str
    tried: int  # cases
    silent: int | None = None  # cases that ended in a wrong result without an error or a reason; None: a figure only
    figure: str = ""  # what was measured, such as "3 of 1,000 can't be noticed by any decoder"
    target: str = ""  # what was asked for, such as "0" or "at most 5 %"
    met: bool | None = None  # None: `silent` alone decides, or there is no target

    @property
    def passed(self) -> bool:
        """Whether the row is as it should be."""
        return not self.silent and self.met is not False


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Where the material lies. A situation whose material is missing is skipped, and the report says so."""

    shared: Path | None  # holds leakbench/, leakbench-originals/ and models/
    bundle: Path | None  # a bundle trained on LeakBench
    quick: bool = False  # fewer cases
