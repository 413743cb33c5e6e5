"""Checks and times LeakRT on this machine's GPU, part by part, in eight minutes; one JSON and a table come out.

    benchmarks/gpu/verify.sh [--rehearse] [--only PART,...] [--python PATH] [--wheels FOLDER] [--soak]

Every part is a process of its own with a time limit, so that one that hangs or crashes does not take the others along;
a part whose library is missing says so. The JSON is written anew after each part: to $OUT, a folder, where that is set,
else to benchmarks/results/gpu_DEVICE.json. Calls on one machine add up: a part that is run again replaces its results.

Needs nothing but Python here; what the parts need, README.md says.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from part import gpu_state
from report import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
_TOTAL = 480.0  # seconds
_SPARE = 5.0  # of them for the report
_SOAK_TOTAL, _SOAK_REST = 580.0, 45.0  # for loading, and for the last frames, beside the soak itself
_TAIL = 60  # lines of a part's output that are kept when it fails


@dataclass(frozen=True)
class Step:
    """A part: its script, and how long it may take at most."""

    name: str
    script: str
    seconds: float
    arguments: tuple[str, ...] = ()
    tensorrt: bool = False  # it runs under --python where that is given


STEPS = (
    Step("machine", "machine.py", 40),
    Step("native", "native.py", 220),
    Step("kernels", "kernels.py", 90),
    Step("kernel_times", "kernel_times.py", 75),
    Step("make_bundle", "make_bundle.py", 100),
    Step("gpu_tests", "gpu_tests.py", 120),
    Step("reference_times", "reference_times.py", 60),
    Step("torch", "chain.py", 120, ("--backend", "torch")),
    Step(
        "carried", "chain.py", 150, ("--backend", "tensorrt", "--precision", "fp32,fp16,int8", "--one"), tensorrt=True
    ),
    Step("tensorrt", "chain.py", 200, ("--backend", "tensorrt"), tensorrt=True),
    Step("rtx_engines", "rtx_engines.py", 90),
    Step("tensorrt_rtx", "chain.py", 90, ("--backend", "tensorrt_rtx")),
)
SOAK = (STEPS[0], STEPS[1], STEPS[4], Step("soak", "soak.py", 530))


def main() -> int:
    """Run the parts that are wanted. Exit code 1 when one failed, or when there was no GPU to verify anything on."""
    options = _options()
    steps = SOAK if options.soak else STEPS
    if options.only:
        steps = tuple(step for step in (*STEPS, SOAK[-1]) if step.name in options.only)
    work: Path = options.work
    work.mkdir(parents=True, exist_ok=True)
    run = Run(options, work)
    total = _SOAK_TOTAL if options.soak else options.seconds
    end = time.monotonic() + total - _SPARE
    for place, step in enumerate(steps):
        left, later = end - time.monotonic(), sum(s.seconds for s in steps[place + 1 :])
        run.take(step, min(left, max(step.seconds, left - later)))  # what later parts may not need is this one's
    print(report(run.results))
    print(f"\n{run.path}")
    if run.device or options.rehearse:
        return 1 if run.failed else 0
    print("nothing was verified: nvidia-smi names no GPU; --rehearse tries the parts on the CPU", file=sys.stderr)
    return 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [step.name for step in (*STEPS, SOAK[-1])]
    parser.add_argument("--rehearse", action="store_true", help="try every part on the CPU; figures mean nothing then")
    parser.add_argument("--only", type=lambda text: text.split(","), help=f"these parts alone: {','.join(names)}")
    parser.add_argument("--python", type=Path, help="another interpreter for the part tensorrt, such as a packed one's")
    parser.add_argument("--bundle", type=Path, help="a trained bundle to run with TensorRT too, in every precision")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to use beside, such as PyCUDA's")
    parser.add_argument("--soak", action="store_true", help="a hundred thousand frames or eight minutes, and no more")
    parser.add_argument("--soak-seconds", type=float, default=480.0, help="for the soak's frames")
    parser.add_argument("--installed", action="store_true", help="take the LeakRT that is installed; build nothing")
    parser.add_argument("--seconds", type=float, default=_TOTAL, help="for all parts together")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "verify", help="what parts share, and caches")
    options = parser.parse_args()
    for name in options.only or ():
        if name not in names:
            parser.error(f"no part {name!r}; there are: {', '.join(names)}")
    options.work = options.work.resolve()
    return options


class Run:
    """Takes parts one by one and keeps what came of them."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self._options, self._work = options, work
        self.device = device = gpu_state(("name",)).get("name", "")
        self.path = _result_path(device, options.rehearse, work)
        self._kept = work / "results.json"  # in its place between calls, for $OUT may be emptied
        self.results = _earlier(self._kept, device, options.rehearse)
        self.failed = False

    def take(self, step: Step, seconds: float) -> None:
        """Run a part for at most so long and write what it left."""
        if (step.name == "native" and self._options.installed) or (step.name == "carried" and not self._options.bundle):
            return
        begin = time.monotonic()
        if seconds < 10:
            self._keep(step, {"status": "skipped", "why": "no time was left"})
            return
        print(f"== {step.name}", flush=True)
        out, log = self._work / f"{step.name}.json", self._work / f"{step.name}.log"
        out.unlink(missing_ok=True)
        code = _run(self._command(step, out, seconds), self._environment(step), log, seconds)
        entry = _entry(code, out, log, seconds)
        entry |= {
            "seconds": round(time.monotonic() - begin, 1),
            "at": datetime.now(timezone.utc).isoformat("T", "seconds"),
        }
        self._keep(step, entry)

    def _keep(self, step: Step, entry: dict[str, Any]) -> None:
        self.results["parts"][step.name] = entry
        self.failed = self.failed or entry["status"] in ("failed", "timed out")
        why = entry.get("why", "")
        print(f"   {entry['status']} in {entry.get('seconds', 0)} s{f': {why}' if why else ''}", flush=True)
        for path in (self._kept, self.path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(self.results, indent=1) + "\n")
            os.replace(temporary, path)

    def _command(self, step: Step, out: Path, seconds: float) -> list[str]:
        options, elsewhere = self._options, self._elsewhere(step)
        script = [str(HERE / step.script), "--out", str(out), "--work", str(self._work), *step.arguments]
        if options.rehearse:
            script.append("--rehearse")
        if step.name == "native" and options.wheels:
            script += ["--wheels", str(options.wheels.resolve())]
        if step.name == "soak":
            script += ["--seconds", str(min(options.soak_seconds, seconds - _SOAK_REST))]
        if step.name == "carried":
            script += ["--bundle", str(options.bundle.resolve())]
        if not elsewhere:
            return [sys.executable, *script]
        # A packed Python sets PYTHONHOME and library paths in a file of its own, for itself alone.
        variables = elsewhere.parents[1] / "env.sh"
        if variables.exists():
            return ["bash", "-c", 'source "$0" && exec "$@"', str(variables), str(elsewhere), *script]
        return [str(elsewhere), *script]

    def _environment(self, step: Step) -> dict[str, str]:
        found = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        found |= {"XDG_CACHE_HOME": str(self._work / "cache"), "TRITON_CACHE_DIR": str(self._work / "triton")}
        if self._elsewhere(step):
            found.pop("PYTHONPATH", None)
        elif not self._options.installed:
            found["PYTHONPATH"] = str(self._work / "site")
        return found

    def _elsewhere(self, step: Step) -> Path | None:
        named: Path | None = self._options.python
        return named.absolute() if named and step.tensorrt else None


def _run(command: list[str], environment: dict[str, str], log: Path, seconds: float) -> int | None:
    """Its exit code; None where it ran out of time, and was killed with all that it had started."""
    with open(log, "w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, cwd=HERE, start_new_session=True
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _entry(code: int | None, out: Path, log: Path, seconds: float) -> dict[str, Any]:
    """What a part left behind, with the end of its output where something went wrong."""
    try:
        data = json.loads(out.read_text())
    except (OSError, ValueError):
        data = {}
    entry: dict[str, Any] = {"status": "ok", "data": data}
    if "skipped" in data:
        entry |= {"status": "skipped", "why": data["skipped"]}
    elif code is None:
        entry |= {"status": "timed out", "why": f"it was ended after {seconds:.0f} s"}
    elif code != 0 or not data.get("done"):
        failures = data.get("failures", [])
        told = _last_line(log) or f"exit code {code}"
        entry |= {"status": "failed", "why": f"{len(failures)} failures; {failures[0]}" if failures else told}
    if entry["status"] not in ("ok", "skipped"):
        entry["output"] = log.read_text(errors="replace").splitlines()[-_TAIL:]
    return entry


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:400] if lines else ""


def _result_path(device: str, rehearse: bool, work: Path) -> Path:
    slug = re.sub(r"[^a-z0-9]+", "_", device.lower()).strip("_") or "none"
    name = "gpu_rehearsal.json" if rehearse else f"gpu_{slug}.json"
    if os.environ.get("OUT"):
        return Path(os.environ["OUT"]) / name
    return (work if rehearse or not device else ROOT / "benchmarks" / "results") / name


def _earlier(path: Path, device: str, rehearse: bool) -> dict[str, Any]:
    """The results of earlier calls on this machine, else empty ones."""
    fresh: dict[str, Any] = {"device": device, "rehearsal": rehearse, "parts": {}}
    try:
        found = json.loads(path.read_text())
        same = found["device"] == device and found["rehearsal"] == rehearse
        return found if same and isinstance(found["parts"], dict) else fresh
    except (OSError, ValueError, KeyError, TypeError):
        return fresh


if __name__ == "__main__":
    sys.exit(main())
