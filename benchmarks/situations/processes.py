"""Forked children, CPU quotas, and terminals that want no escape codes or are closed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from leakrt.runtime.backends import registry
from leakrt.runtime.cgroups import cpu_quota

from .row import Inputs, Row

_TINY = Path(__file__).parents[2] / "tests" / "data" / "tiny"
_SECONDS = 60  # until a child counts as one that hangs
_MAIN = "from leakrt.cli.main import run; run()"
_FORK = """
import os, sys
import numpy as np
from leakrt import Detector
from leakrt.core.errors import LeakRTError
frame = np.zeros((480, 640, 3), np.uint8)
load = lambda: Detector.load(sys.argv[1], backend=sys.argv[2], precision="fp32", threads=int(sys.argv[3]))
try:
    detector = load()
except LeakRTError as error:
    print("skipped:", error)
    sys.exit()
expected = detector.check(frame).scores
child = os.fork()
if child:
    os.waitpid(child, 0)
    os._exit(0)
for judge in (lambda: detector.check(frame), lambda: list(detector.check_stream([frame] * 9))[-1],
              lambda: load().check(frame)):
    try:
        print("judged" if judge().scores == expected else "wrong", end=" ", flush=True)
    except LeakRTError:
        print("refused", end=" ", flush=True)
sys.stdout.flush()
os._exit(0) if sys.argv[4] == "_exit" else sys.exit(0)
"""


def measure(inputs: Inputs) -> list[Row]:
    """Every situation on the bundle, or where none is given on the tiny one of the tests."""
    bundle = inputs.bundle or _TINY
    threads = (2,) if inputs.quick else (1, 2, 4)
    rows = [_forked(bundle, name, threads) for name in ("onnxruntime", "openvino", "torch")]
    return [*rows, _quotas(), *(_terminal(bundle, wish) for wish in ("NO_COLOR=1", "TERM=dumb")), _closed(bundle)]


def _forked(bundle: Path, backend: str, threads: tuple[int, ...]) -> Row:
    """A detector used, loaded again and left in a forked child."""
    situation = f"{backend} in a forked child: used, loaded again, left; {', '.join(map(str, threads))} threads"
    if not registry.kind(backend).probe().runs:
        return Row(situation=situation, tried=0, figure="skipped: not installed")
    found: list[str] = []
    hanging = 0
    for number in threads:
        for end in ("_exit", "exit"):
            command = [sys.executable, "-W", "ignore", "-c", _FORK, str(bundle), backend, str(number), end]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                       start_new_session=True)  # fmt: skip
            try:
                out, _ = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                out, _ = process.communicate()
                hanging += 1
            if out.startswith("skipped"):
                return Row(situation=situation, tried=0, figure=out.strip())
            found += out.split()
    counts = ", ".join(f"{found.count(word)} {word}" for word in ("judged", "refused", "wrong") if word in found)
    silent = hanging + found.count("wrong")
    return Row(situation=situation, tried=6 * len(threads), silent=silent, figure=f"{counts}, {hanging} hang",
               target="0 hang")  # fmt: skip


def _quotas() -> Row:
    """Trees as the kernel lays them out for version 1, version 2, both, and a container."""
    cases = (
        ("0::/a/b", "cgroup2", "/", {"a/b/cpu.max": "300000 100000", "a/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b", "cgroup2", "/", {"a/b/cpu.max": "max 100000"}, None),
        ("0::/docker/1a", "cgroup2", "/docker/1a", {"cpu.max": "50000 100000"}, 0.5),
        ("4:cpu,cpuacct:/a", "cgroup", "/", {"a/cpu.cfs_quota_us": "250000", "a/cpu.cfs_period_us": "100000"}, 2.5),
        ("4:cpu,cpuacct:/a", "cgroup", "/", {"a/cpu.cfs_quota_us": "-1", "a/cpu.cfs_period_us": "100000"}, None),
        ("4:cpu:/d/1", "cgroup", "/d/1", {"cpu.cfs_quota_us": "70000", "cpu.cfs_period_us": "100000"}, 0.7),
    )
    wrong = 0
    for line, kind, root, files, expected in cases:
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            (base / "cgroup").write_text(f"{line}\n")
            (base / "mountinfo").write_text(f"31 22 0:26 {root} {folder}/fs rw shared:9 - {kind} {kind} rw,cpu\n")
            for name, text in files.items():
                (base / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
                (base / "fs" / name).write_text(text)
            wrong += cpu_quota(base) != expected
    return Row(situation="CPU quota of the process's own cgroup", tried=len(cases), silent=wrong, target="0 wrong")


def _verbs(bundle: Path, images: Path) -> list[list[str]]:
    from leakrt.cli.app import VERBS

    helps = [[verb, "--help"] for verb in VERBS]
    wrong = [[], ["nosuch"], ["--help"], ["inspect", "/nowhere"]]
    check = ["check", str(bundle), str(images)]
    return [*helps, *wrong, ["inspect", str(bundle)], ["doctor"], check, [*check, "--json"]]


def _terminal(bundle: Path, wish: str) -> Row:
    """Every verb on a pseudo-terminal that wants no escape codes."""
    situation = f"{wish} on a terminal, every verb"
    if not Path("/usr/bin/script").exists():
        return Row(situation=situation, tried=0, figure="skipped: needs util-linux's script")
    verbs, bad = _verbs(bundle, _images()), 0
    for words in verbs:
        inner = " ".join(["env", "TERM=xterm", wish, sys.executable, "-c", f"'{_MAIN}'", *words])
        done = subprocess.run(["script", "-qec", inner, os.devnull], capture_output=True, timeout=_SECONDS,
                              stdin=subprocess.DEVNULL)  # fmt: skip
        bad += b"\x1b" in done.stdout or b"Traceback" in done.stdout
    return Row(situation=situation, tried=len(verbs), silent=bad, target="no escape code, no traceback")


def _closed(bundle: Path) -> Row:
    """Every verb with stderr, stdout or all standard streams closed: the same exit code, and no traceback."""
    verbs, bad = _verbs(bundle, _images()), 0
    for words in verbs:
        command = " ".join(["exec", sys.executable, "-c", f"'{_MAIN}'", *words])
        plain = _shell(command)
        for closed in ("2>&-", ">&-", "<&- >&- 2>&-"):
            done = _shell(f"{command} {closed}")
            bad += done.returncode != plain.returncode or b"Traceback" in done.stdout + done.stderr
    return Row(situation="closed standard streams, every verb", tried=3 * len(verbs), silent=bad,
               target="the same exit code, no traceback")  # fmt: skip


def _shell(command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", command], capture_output=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)


def _images() -> Path:
    """A folder with a noise image."""
    import numpy as np
    from PIL import Image

    folder = Path(tempfile.mkdtemp())
    pixels = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "x.png")
    return folder
