"""How a measured number is printed, or that it was not measured."""

from __future__ import annotations


def figure(value: float | None, *, form: str = ".4f") -> str:
    """The number in the format `form`; "not measured" for None."""
    return "not measured" if value is None else format(value, form)


def percent(share: float | None, *, form: str = ".1f") -> str:
    """A share of 1 in percent; "not measured" for None."""
    return "not measured" if share is None else f"{100 * share:{form}} %"
