"""A disk of a few kilobytes, mounted for one command alone."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

# The mount is seen by the command only, so what is to lie on it comes by a copy, and what lies there after goes by one.
_MOUNTED = """
mount -t tmpfs -o "size=$1k" small "$2" || exit 125
cp -a "$3/." "$2" || exit 125
before="$2" after="$4"; shift 4
"$@"; code=$?
cp -a "$before/." "$after" || exit 125
exit $code
"""


def own_mounts() -> bool:
    """Whether a process may mount a disk of its own here."""
    try:
        return subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True).returncode == 0
    except OSError:
        return False


needs_own_mounts = pytest.mark.skipif(not own_mounts(), reason="needs `unshare --mount` for a small disk of its own")


def run_on_small_disk(
    disk: Path, kilobytes: int, arguments: list[object], *, before: Path, after: Path
) -> subprocess.CompletedProcess[str]:
    """Run a command with a disk at the folder `disk` that holds at most so much, and the content of `before` at first.

    What it holds at the end is copied into the folder `after`.
    """
    for folder in (disk, before, after):
        folder.mkdir(exist_ok=True)
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", _MOUNTED, "sh"]
    options = {"capture_output": True, "text": True}
    done = subprocess.run([*command, *map(str, (kilobytes, disk, before, after, *arguments))], **options)
    assert done.returncode != 125, done.stderr
    return done
