"""Formatting of measured numbers that may be missing."""

from __future__ import annotations


def figure(value: float | None, *, form: str = ".4f") -> str:
    """Return the number in the format `form`; "not measured" for None."""
    return "not measured" if value is None else format(value, form)


def percent(share: float | None, *, form: str = ".1f") -> str:
    """Return a share between 0 and 1 as a percentage; "not measured" for None."""
    return "not measured" if share is None else f"{100 * share:{form}} %"
