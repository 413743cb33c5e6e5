"""The CPU quota of this process's cgroups, versions 1 and 2. Linux only."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

_PROC = Path("/proc/self")
_ESCAPED = re.compile(r"\\([0-7]{3})")  # mountinfo writes a space as \040


class _Mount(NamedTuple):
    """A mounted cgroup hierarchy."""

    kind: str  # cgroup or cgroup2
    root: PurePosixPath  # the cgroup that is mounted
    point: Path
    options: frozenset[str]  # for version 1: the controllers


def cpu_quota(proc: Path = _PROC) -> float | None:
    """Return this process's CPU time quota in cores; None without a quota.

    The quota is the smallest of its own cgroup and of all parents. `proc` contains `cgroup` and `mountinfo`; files that
    can't be read are ignored.
    """
    quotas = [quota for folder, read in _folders(proc) if (quota := read(folder)) is not None]
    return min(quotas, default=None)


def _folders(proc: Path) -> Iterator[tuple[Path, Callable[[Path], float | None]]]:
    """Yield every cgroup folder that may limit this process, and the function that reads its quota."""
    mounts = [mount for line in _lines(proc / "mountinfo") if (mount := _mount(line)) is not None]
    for line in _lines(proc / "cgroup"):  # "0::/user.slice", or "4:cpu,cpuacct:/docker/1a2b"
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        second = number == "0" and not controllers
        if not second and "cpu" not in controllers.split(","):
            continue
        for mount in mounts:
            if (mount.kind == "cgroup2") if second else (mount.kind == "cgroup" and "cpu" in mount.options):
                for folder in _upwards(mount, PurePosixPath(path)):
                    yield folder, _quota_2 if second else _quota_1


def _upwards(mount: _Mount, path: PurePosixPath) -> Iterator[Path]:
    """Yield a cgroup's folder and its parents, up to the mounted one.

    In a container that shares the host's namespace, `path` is a path of the host. The mounted folder is then the cgroup
    itself.
    """
    below = path.relative_to(mount.root) if path.is_relative_to(mount.root) else PurePosixPath()
    folder = PurePosixPath() if ".." in below.parts else below
    yield mount.point / folder
    for parent in folder.parents:
        yield mount.point / parent


def _mount(line: str) -> _Mount | None:
    """Parse a line such as "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"."""
    before, _, after = line.partition(" - ")
    where, what = before.split(), after.split()
    if len(where) < 5 or len(what) < 3 or what[0] not in ("cgroup", "cgroup2"):
        return None
    root, point = (_ESCAPED.sub(lambda found: chr(int(found[1], 8)), text) for text in where[3:5])
    return _Mount(what[0], PurePosixPath(root), Path(point), frozenset(what[2].split(",")))


def _quota_2(folder: Path) -> float | None:
    """Read `cpu.max`, such as "150000 100000" or "max 100000"."""
    return _cores(*_lines(folder / "cpu.max")[:1])


def _quota_1(folder: Path) -> float | None:
    """Read the two files of version 1; -1 means no quota."""
    names = "cpu.cfs_quota_us", "cpu.cfs_period_us"
    return _cores(" ".join(line for name in names for line in _lines(folder / name)[:1]))


def _cores(text: str = "") -> float | None:
    words = text.split()
    if len(words) != 2 or not all(word.isdecimal() for word in words) or int(words[1]) == 0:
        return None
    return int(words[0]) / int(words[1])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
