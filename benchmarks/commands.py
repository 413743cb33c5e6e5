"""LeakRT's command line as processes of their own, with what each took."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO


@dataclass(frozen=True)
class Ran:
    """One command: its exit code, what it printed, and what it took."""

    code: int
    printed: str
    said: str  # the last line of stderr
    seconds: float
    cpu_seconds: float  # user and system, over all cores
    megabytes: float  # peak resident memory


class _Passed(threading.Thread):
    """Hands lines on to stderr as they come, and keeps the last."""

    def __init__(self, lines: IO[str]) -> None:
        super().__init__(daemon=True)
        self._lines, self.last = lines, ""

    def run(self) -> None:
        for line in self._lines:
            sys.stderr.write(line)
            self.last = line.strip() or self.last


def run_leakrt(*arguments: object) -> Ran:
    """Run a verb to its end. Exits when it ends with another code than 0 or 1."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "leakrt", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = _Passed(process.stderr)
        said.start()
        printed = process.stdout.read()
        said.join()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    seconds, processor = time.perf_counter() - begin, usage.ru_utime + usage.ru_stime
    return Ran(process.returncode, printed, said.last, seconds, processor, usage.ru_maxrss / 1e3)
