"""The report of `leakrt doctor`: what is installed, what can run and what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from ...core.errors import LeakRTError
from ...core.files import cache_folder
from ..backends.base import Availability
from ..backends.registry import AUTO_ORDER, probe_all
from ..threads import resolve_threads
from .commands import machine_kind
from .facts import MachineFacts, gather
from .needs import Need, judge

_REQUIREMENT = re.compile(r"""(?P<name>[\w.-]+)[^;]*(?:;.*extra\s*==\s*["'](?P<extra>[\w-]+)["'].*)?""")
_MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "scikit-learn": "sklearn"}


@dataclass(frozen=True)
class Package:
    """A package that LeakRT uses."""

    name: str
    extra: str  # the extra that installs it; empty for the base installation
    version: str  # empty if it is not installed


@dataclass(frozen=True)
class Nvidia:
    """The NVIDIA GPU and the components that it needs. A missing GPU is not a problem."""

    kind: str  # "jetson", "rtx", "datacenter"; empty without a GPU
    facts: MachineFacts
    needs: tuple[Need, ...]


@dataclass(frozen=True, kw_only=True)
class Health:
    """The state of this installation. `problems`: errors that keep the base installation from working, with a fix."""

    leakrt: str
    python: str
    system: str
    simd: str  # instruction set of the native core; empty if it can't be loaded
    threads: int  # default of a detector
    cache: str
    packages: tuple[Package, ...]
    backends: tuple[Availability, ...]
    auto_order: tuple[str, ...]  # backends that auto may choose; the others must be named
    nvidia: Nvidia
    problems: tuple[str, ...]

    def missing_extras(self) -> dict[str, tuple[str, ...]]:
        """Return, for each incomplete extra, its packages that are not installed."""
        extras: dict[str, tuple[str, ...]] = {}
        for package in self.packages:
            if package.extra and not package.version:
                extras[package.extra] = (*extras.get(package.extra, ()), package.name)
        return extras

    def to_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self)


def examine() -> Health:
    """Examine this installation. Its faults are reported as `problems`, not raised."""
    packages, backends = _packages(), tuple(probe_all())
    simd, native_problem = _simd()
    cache = cache_folder()
    problems = [
        *native_problem,
        *(
            f"{p.name} is not installed; install it with: pip install {p.name}"
            for p in packages
            if not (p.extra or p.version)
        ),
        *([] if any(b.runs for b in backends) else ["no backend can run; see above"]),
        *_cache_problem(cache),
    ]
    return Health(
        leakrt=_version("leakrt"),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        simd=simd,
        threads=resolve_threads(0),
        cache=str(cache),
        packages=packages,
        backends=backends,
        auto_order=AUTO_ORDER,
        nvidia=_nvidia(),
        problems=tuple(problems),
    )


def _nvidia() -> Nvidia:
    facts = gather()
    return Nvidia(machine_kind(facts.jetson, facts.gpus), facts, judge(facts))


def _packages() -> tuple[Package, ...]:
    """Return the packages that leakrt's metadata requires, so that the list is not duplicated here."""
    try:
        requirements = metadata.requires("leakrt") or []
    except metadata.PackageNotFoundError:
        return ()
    found = (_REQUIREMENT.fullmatch(line) for line in requirements)
    return tuple(
        Package(m["name"], m["extra"] or "", _installed(m["name"])) for m in found if m and m["extra"] != "dev"
    )


def _installed(package: str) -> str:
    """Return a package's version, or "another build" if another package provides the same module.

    Examples: OpenCV with GUI support, ONNX Runtime for a GPU, packages of JetPack.
    """
    module = _MODULES.get(package, package)
    return _version(package) or ("another build" if importlib.util.find_spec(module) else "")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _simd() -> tuple[str, list[str]]:
    try:
        from ... import _core
    except (ImportError, LeakRTError) as error:
        return "", [f"can't load the native core: {error}; reinstall LeakRT: pip install --force-reinstall leakrt"]
    return _core.simd(), []


def _cache_problem(folder: Path) -> Iterator[str]:
    """Yield a problem if a file can't be written. Permission bits do not show read-only mounts and quotas."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as handle:
            handle.write(os.urandom(4096))
            handle.flush()
    except OSError as error:
        yield f"can't write to the cache folder {folder}: {error.strerror}; set $XDG_CACHE_HOME to a writable folder"
