"""The interface through which long operations report progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with the task, how much of it is done and the total (0 if unknown)."""

    def __call__(self, task: str, done: int, total: int) -> None: ...


def silent(task: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""
