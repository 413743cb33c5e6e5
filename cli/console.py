"""Console output: progress on stderr, colours, tables, and text without control characters.

| environment | effect |
| --- | --- |
| NO_COLOR (not empty) | no escape codes: no colours, and progress as lines instead of a bar |
| TERM=dumb | the same |
| FORCE_COLOR (not empty) | colours without a terminal, unless NO_COLOR or TERM=dumb is set |
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from .interrupts import raise_swallowed

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_PLAIN_INTERVAL = 2.0  # seconds between two lines
_COLOURS = {"green": 32, "red": 31, "yellow": 33, "magenta": 35, "dim": 2, "bold": 1}


class ConsoleProgress:
    """A `core.progress.Progress` on stderr: a bar on a terminal, otherwise a line every two seconds.

    It shows the count, the rate and the time left. Use it as a context manager; leaving it stops the bar.
    """

    def __init__(self, unit: str = "", *, stream: TextIO | None = None) -> None:
        """`unit` names what is counted, such as "images"; `stream` defaults to sys.stderr."""
        self._stream = sys.stderr if stream is None else stream
        self._display: _Bar | _Lines = _Bar(unit) if _is_terminal(self._stream) else _Lines(unit, self._stream)

    def __call__(self, task: str, done: int, total: int) -> None:
        """Show that `done` of `total` (0: unknown) of `task` are done.

        Raises KeyboardInterrupt if a library swallowed a Ctrl-C.
        """
        raise_swallowed()
        self._display.update(printable(task), done, total)

    def __enter__(self) -> ConsoleProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._display.close()


class _Bar:
    """Rich's progress bar. rich is imported at the first update, since the import is slow."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._progress: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}

    def update(self, task: str, done: int, total: int) -> None:
        if self._progress is None:
            self._progress = _rich_progress()
            self._progress.start()
        if task not in self._tasks:
            unit = _unit(self._unit, total)
            self._tasks[task] = self._progress.add_task(task, total=total or None, unit=unit)
        self._progress.update(self._tasks[task], completed=done, total=total or None)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()


class _Lines:
    """Progress as plain lines, for logs."""

    def __init__(self, unit: str, stream: TextIO) -> None:
        self._unit, self._stream = unit, stream
        self._task = ""
        self._begin = self._shown = 0.0
        self._first = 0

    def update(self, task: str, done: int, total: int) -> None:
        now = time.monotonic()
        if task != self._task:
            self._task, self._begin, self._shown, self._first = task, now, now, done
        last = total and done >= total and now - self._begin >= _PLAIN_INTERVAL
        if last or now - self._shown >= _PLAIN_INTERVAL:
            self._shown = now
            print(self._line(done, total, now - self._begin), file=self._stream, flush=True)

    def _line(self, done: int, total: int, seconds: float) -> str:
        rate = (done - self._first) / seconds if seconds > 0 else 0.0
        count = f"{done}/{total}" if total else str(done)
        parts = [f"{self._task}: {count} {_unit(self._unit, total)}".rstrip()]
        if rate > 0:
            parts.append(f"{rate:.3g}/s")
        if rate > 0 and total > done:
            parts.append(f"{duration((total - done) / rate)} left")
        return ", ".join(parts)

    def close(self) -> None:
        """Do nothing: lines need no cleanup."""


def _unit(unit: str, total: int) -> str:
    """Return the unit to show. Without a total there is no percentage, and the task counts seconds."""
    return "s" if unit == "%" and not total else unit


def _rich_progress() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:.3g}/s" if task.speed else "", style="dim")

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        Rate(),
        TimeLeft(),
        console=Console(stderr=True),
    )


def duration(seconds: float) -> str:
    """Format a duration: 8 s, 2 min 5 s, 3 h 12 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(count: float) -> str:
    """Format a number of bytes: 12 B, 3.4 MiB."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def printable(text: str) -> str:
    """Return `text` as one line without control characters, since file and class names are untrusted."""
    return "".join(
        c if c.isprintable() or "\udc80" <= c <= "\udcff" else " " if c.isspace() else "\ufffd" for c in text
    )


def coloured(text: str, colour: str, *, stream: Any = None) -> str:
    """Return `text` in a colour (or dim, bold) if `stream` (default: stdout) is a terminal or colours are forced."""
    stream = sys.stdout if stream is None else stream
    forced = bool(os.environ.get("FORCE_COLOR")) and not _plain()
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if forced or _is_terminal(stream) else text


def _is_terminal(stream: Any) -> bool:
    """Return whether `stream` is a terminal that accepts escape codes."""
    return stream.isatty() and not _plain()


def _plain() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def table(rows: Sequence[tuple[str, ...]], *, indent: str = "  ") -> str:
    """Format rows of text as left-aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
