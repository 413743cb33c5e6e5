"""What is installed, what can run and what is missing, for `leakrt doctor`."""

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
    extra: str  # the extra that brings it; empty for the base install
    version: str  # empty when it is not installed


@dataclass(frozen=True)
class Nvidia:
    """What there is of an NVIDIA GPU and of all that it takes. None of it is a problem where there is none."""

    kind: str  # "jetson", "rtx", "datacenter"; empty where no GPU was found
    facts: MachineFacts
    needs: tuple[Need, ...]


@dataclass(frozen=True, kw_only=True)
class Health:
    """The state of this installation. `problems` are what keeps the base install from working, with what to do."""

    leakrt: str
    python: str
    system: str
    simd: str  # instruction set of the native core; empty when it does not load
    threads: int  # that a detector takes by default
    cache: str
    packages: tuple[Package, ...]
    backends: tuple[Availability, ...]
    auto_order: tuple[str, ...]  # of those backends; the rest are taken only by name
    nvidia: Nvidia
    problems: tuple[str, ...]

    def missing_extras(self) -> dict[str, tuple[str, ...]]:
        """Extra to the packages of it that are not installed."""
        extras: dict[str, tuple[str, ...]] = {}
        for package in self.packages:
            if package.extra and not package.version:
                extras[package.extra] = (*extras.get(package.extra, ()), package.name)
        return extras

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def examine() -> Health:
    """Look at this installation. Raises nothing that is the installation's fault: that is a problem of the report."""
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
    """What leakrt's own metadata asks for, so that the list lives in one place."""
    try:
        requirements = metadata.requires("leakrt") or []
    except metadata.PackageNotFoundError:
        return ()
    found = (_REQUIREMENT.fullmatch(line) for line in requirements)
    return tuple(
        Package(m["name"], m["extra"] or "", _installed(m["name"])) for m in found if m and m["extra"] != "dev"
    )


def _installed(package: str) -> str:
    """Its version. Another build may bring the same module: OpenCV with windows, ONNX Runtime for a GPU, JetPack's."""
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
        return "", [
            f"the native core does not load ({error}); install leakrt again: pip install --force-reinstall leakrt"
        ]
    return _core.simd(), []


def _cache_problem(folder: Path) -> Iterator[str]:
    """Try to write: permission bits say little about read-only mounts and quotas."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as handle:
            handle.write(os.urandom(4096))
            handle.flush()
    except OSError as error:
        yield f"the cache folder {folder} can't be written ({error.strerror}); set $XDG_CACHE_HOME to one that can"
