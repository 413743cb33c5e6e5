"""Collect the facts that decide whether an NVIDIA GPU can be used."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import LeakRTError
from ...engines.library.device import Gpu, driver_version, find_driver, list_gpus
from .cached import CacheState, look_at_cache
from .jetson import Jetson, read_jetson
from .libraries import Library, find_libraries, pycuda_version, system_bindings
from .toolkit import KernelBuild, Toolkit, find_kernels, find_toolkit

_VERSION = re.compile(r'^(ID|VERSION_ID)="?([\w.]+)"?$', re.MULTILINE)
_CONTAINER_MARKS = (".dockerenv", "run/.containerenv")
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, kw_only=True)
class DriverFacts:
    """The NVIDIA driver. Without a driver, only `problem` is set."""

    version: str  # "580.95.05"; empty if the kernel does not report it
    cuda: str  # highest CUDA version it supports: "13.0"
    problem: str  # why it can't be used; empty if it can
    code: int  # CUDA's error code if its initialization failed, else 0


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """The facts about this machine. `needs.judge` evaluates them."""

    python: str  # major and minor version: "3.11"
    distribution: str  # name in NVIDIA's package repositories: "ubuntu2404"; empty for other systems
    architecture: str  # "x86_64", "aarch64"
    container: bool
    hidden: str  # $CUDA_VISIBLE_DEVICES
    jetson: Jetson | None
    driver: DriverFacts
    gpus: tuple[Gpu, ...]
    toolkit: Toolkit
    kernels: KernelBuild
    libraries: tuple[Library, ...]
    bindings: tuple[str, ...]  # Python versions with TensorRT bindings from system packages
    pycuda: str  # version; empty if not installed
    cache: CacheState


def gather(root: Path = Path("/")) -> MachineFacts:
    """Collect the facts about this machine. Reads system files below `root`. Does not raise."""
    libraries, usable = find_libraries()
    driver, gpus = _driver()
    return MachineFacts(
        python=".".join(platform.python_version_tuple()[:2]),
        distribution=read_distribution(root),
        architecture=platform.machine(),
        container=any((root / mark).exists() for mark in _CONTAINER_MARKS),
        hidden=os.environ.get(VISIBLE_DEVICES, ""),
        jetson=read_jetson(root),
        driver=driver,
        gpus=gpus,
        toolkit=find_toolkit(),
        kernels=find_kernels(),
        libraries=libraries,
        bindings=system_bindings(root),
        pycuda=pycuda_version(),
        cache=look_at_cache(usable),
    )


def read_distribution(root: Path) -> str:
    """Return the distribution in etc/os-release, such as "ubuntu2404"; empty if NVIDIA has no apt repository for it."""
    try:
        found = dict(_VERSION.findall((root / "etc/os-release").read_text(errors="replace")))
    except OSError:
        return ""
    name, version = found.get("ID", ""), found.get("VERSION_ID", "")
    return f"{name}{version.replace('.', '')}" if name in ("ubuntu", "debian") and version else ""


def _driver() -> tuple[DriverFacts, tuple[Gpu, ...]]:
    found = find_driver()
    version = driver_version()
    try:
        return DriverFacts(version=version, cuda=found.cuda, problem=found.problem, code=found.code), tuple(list_gpus())
    except LeakRTError as error:
        return DriverFacts(version=version, cuda=found.cuda, problem=str(error), code=0), ()
