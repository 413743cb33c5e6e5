"""Measure the cold start: from a new process to its first verdict."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from ...core.errors import BackendError
from ...core.progress import Progress, silent

# Without "" in sys.path, a file in the current folder can't shadow a library.
_CHILD = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]
from leakrt.runtime.profiling.first_verdict import run
run()
"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """Arguments of `Detector.load` in the new process. `image`: path of a file; "" means the golden image."""

    bundle: str
    backend: str
    precision: str
    threads: int
    image: str
    device: int = 0


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """Medians over `runs` new processes, in milliseconds. The bundle's files are in the page cache."""

    runs: int
    import_ms: float  # of LeakRT
    load_ms: float  # of the bundle
    first_check_ms: float
    load_to_verdict_ms: float  # load and first check
    process_ms: float  # from process start to verdict
    peak_bytes: int | None  # peak memory of the process; None if unknown

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object with one entry per field."""
        return asdict(self)


def measure_cold_start(request: Request, runs: int, *, progress: Progress = silent) -> ColdStart:
    """Start `runs` new processes, one after another. Raises BackendError with the message of one that fails."""
    found = []
    for done in range(runs):
        progress("cold start", done, runs)
        found.append(_start(request))
    progress("cold start", runs, runs)
    return _medians(found)


def _start(request: Request) -> dict[str, Any]:
    begin = time.perf_counter()
    command = [sys.executable, "-c", _CHILD, json.dumps(asdict(request))]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise BackendError(f"cold start measurement failed: {reason}")
    result: dict[str, Any] = json.loads(lines[-1])
    if "error" in result:
        raise BackendError(f"cold start measurement failed: {result['error']}")
    return {**result, "wall": wall - result["reading"]}


def _medians(found: Sequence[dict[str, Any]]) -> ColdStart:
    def milliseconds(*names: str) -> float:
        return 1e3 * float(median(sum(one[name] for name in names) for one in found))

    peaks = [one["peak"] for one in found if one["peak"] is not None]
    return ColdStart(
        runs=len(found),
        import_ms=milliseconds("import"),
        load_ms=milliseconds("load"),
        first_check_ms=milliseconds("first_check"),
        load_to_verdict_ms=milliseconds("load", "first_check"),
        process_ms=milliseconds("wall"),
        peak_bytes=int(median(peaks)) if peaks else None,
    )


def request_for(
    bundle: Path, backend: str, precision: str, *, threads: int, image: Path | None, device: int = 0
) -> Request:
    """Return the request for a backend and precision that are already chosen, with absolute paths."""
    shown = "" if image is None else str(image.resolve())
    return Request(
        bundle=str(bundle.resolve()), backend=backend, precision=precision, threads=threads, image=shown, device=device
    )
