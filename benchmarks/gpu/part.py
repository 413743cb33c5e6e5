"""What the parts of verify.py have in common: their options, their results on disk, and a sample's percentiles.

A part is a script that `verify.py` runs in a process of its own. It writes one JSON object and keeps it whole after
every result, so that what was measured is not lost when it is killed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

NO_GPU = "no GPU"
# One by one where a driver does not know them all.
_FIELDS = (
    "name", "driver_version", "compute_cap", "memory.total", "memory.used", "pstate", "clocks.sm", "clocks.mem",
    "clocks.max.sm", "clocks.max.mem", "temperature.gpu", "power.draw", "power.limit", "clocks_throttle_reasons.active",
    "ecc.mode.current", "mig.mode.current", "persistence_mode", "compute_mode", "pcie.link.gen.current",
    "pcie.link.width.current",
)  # fmt: skip
_CLOCKS = ("clocks.sm", "clocks.mem", "temperature.gpu", "power.draw", "pstate", "memory.used")


class Part:
    """Options and results of this process. `rehearse`: try everything on the CPU; figures then mean nothing."""

    def __init__(self, description: str | None, add: Callable[[argparse.ArgumentParser], object] | None = None) -> None:
        """Parse the command line; `add` adds a part's own options."""
        parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
        parser.add_argument("--out", type=Path, required=True, help="where the results go")
        parser.add_argument("--work", type=Path, required=True, help="folder that parts share")
        parser.add_argument("--rehearse", action="store_true", help="try it on the CPU")
        if add is not None:
            add(parser)
        self.options = parser.parse_args()
        self.rehearse: bool = self.options.rehearse
        self.work: Path = self.options.work
        self._data: dict[str, Any] = {}
        self._failed: list[str] = []

    @property
    def results(self) -> Mapping[str, Any]:
        """What was kept so far."""
        return self._data

    def set(self, name: str, value: Any) -> None:
        """Keep a result, and write all of them."""
        self._data[name] = value
        text = json.dumps(plain({**self._data, "failures": self._failed}), indent=1, allow_nan=False)
        temporary = self.options.out.with_suffix(f".{os.getpid()}.part")
        temporary.write_text(text)
        os.replace(temporary, self.options.out)

    def fail(self, what: str) -> None:
        """Keep what is wrong and go on; `end` then ends with exit code 1."""
        print(f"FAILED: {what}", flush=True)
        self._failed.append(what)
        self.set("failed", True)

    def skip(self, reason: str) -> NoReturn:
        """End here: nothing can be done."""
        self.set("skipped", reason)
        sys.exit(0)

    def skip_for(self, problem: str) -> None:
        """Skip, unless the problem is empty."""
        if problem:
            self.skip(problem)

    def needs_torch(self) -> None:
        """Skip without torch, and but for a rehearsal where torch sees no GPU."""
        try:
            import torch
        except ImportError as error:
            self.skip(f"torch is missing ({error})")
        if not self.rehearse and not torch.cuda.is_available():
            self.skip("torch sees no GPU")

    @contextmanager
    def trying(self, name: str) -> Iterator[None]:
        """What fails inside is kept as `name`'s failure, in one line, and the rest goes on."""
        try:
            yield
        except Exception as error:
            self.fail(f"{name}: {one_line(error)}")

    def end(self) -> NoReturn:
        """Leave, with exit code 1 after a failure."""
        self.set("done", True)
        sys.exit(1 if self._failed else 0)

    def other(self, name: str) -> dict[str, Any]:
        """The results of an earlier part of this run; empty where there are none."""
        try:
            found = json.loads((self.work / f"{name}.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def gpu_state(fields: Sequence[str] = _FIELDS) -> dict[str, str]:
    """What nvidia-smi says of the first GPU, changed in nothing; empty where there is none."""
    together = _query(fields)
    if together is not None:
        return dict(zip(fields, together, strict=True))
    if _query(("name",)) is None:
        return {}
    found = {field: _query((field,)) for field in fields}
    return {field: values[0] for field, values in found.items() if values is not None}


def clocks() -> dict[str, str]:
    """Clocks, temperature and power at this moment; empty where there is no GPU."""
    return gpu_state(_CLOCKS)


def _query(fields: Sequence[str]) -> list[str] | None:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader", "-i", "0"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = [value.strip() for value in run.stdout.strip().split(",")]
    return values if run.returncode == 0 and len(values) == len(fields) else None


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Percentiles of a sample, each the value that so many reach or stay under; nothing of an empty one."""
    if not samples:
        return {}
    ordered = sorted(samples)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]

    return {"p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "min": ordered[0], "max": ordered[-1], "n": len(ordered)}


def plain(value: Any) -> Any:
    """As JSON can hold it: numbers of NumPy as Python's, what is not finite as text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "item") and getattr(value, "size", 1) == 1:
        value = value.item()
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (str, int, float, bool)) or value is None else str(value)


def one_line(error: BaseException) -> str:
    """An error's kind and message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
