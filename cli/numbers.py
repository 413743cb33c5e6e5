"""Lists of numbers on the command line."""

from __future__ import annotations

from ..core.errors import UsageError


def numbers(text: str, option: str, example: str) -> tuple[int, ...]:
    """The whole numbers between commas. Raises UsageError that names `option` and shows `example`."""
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} {text}: whole numbers with commas between are needed, such as {example}") from error
