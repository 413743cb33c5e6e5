"""The interface by which long tasks report their progress."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Callback that receives a caption, the number of finished units and their total (0 if unknown)."""

    def __call__(self, task: str, done: int, total: int) -> None: ...


def silent(task: str, done: int, total: int) -> None:
    """Discard the report: a Progress that displays nothing."""
