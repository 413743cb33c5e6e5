"""TensorRT and TensorRT-RTX as this Python sees them, and bindings of the system that it does not see."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ...core.errors import LeakRTError
from ...engines.library.flavour import FLAVOURS, Flavour
from ...engines.library.installed import MODULES, load_flavour

_CUDA_MAJORS = (13, 12, 11)


@dataclass(frozen=True, kw_only=True)
class Library:
    """One flavour of TensorRT."""

    flavour: str  # "tensorrt" or "tensorrt-rtx"
    version: str  # empty where it is not installed, or does not import
    cuda: int  # major CUDA version it was built for, where its package tells; 0: not known
    problem: str  # why it can't be used; empty where it can, and where it is not installed at all

    @property
    def usable(self) -> bool:
        """Whether LeakRT builds and runs engines with it."""
        return bool(self.version) and not self.problem


def find_libraries() -> tuple[tuple[Library, ...], list[Flavour]]:
    """Every flavour as it is here, and those that LeakRT can use, loaded. Raises nothing."""
    libraries, usable = [], []
    for name in FLAVOURS:
        try:
            flavour = load_flavour(name)
        except LeakRTError as error:
            problem = str(error) if _is_there(MODULES[name]) else ""
            libraries.append(Library(flavour=name, version="", cuda=_cuda(MODULES[name]), problem=problem))
            continue
        usable.append(flavour)
        libraries.append(Library(flavour=name, version=flavour.version, cuda=_cuda(MODULES[name]), problem=""))
    return tuple(libraries), usable


def system_bindings(root: Path = Path("/")) -> tuple[str, ...]:
    """The Pythons that Debian packages brought TensorRT's bindings for: "3.10". An environment may not see them."""
    found = (root / "usr/lib").glob("python3*/dist-packages/tensorrt")
    return tuple(sorted(path.parts[-3].removeprefix("python") for path in found if path.is_dir()))


def pycuda_version() -> str:
    """Empty where PyCUDA is not installed. Not imported: that needs a driver."""
    try:
        return metadata.version("pycuda")
    except metadata.PackageNotFoundError:
        return "another build" if _is_there("pycuda") else ""


def _cuda(module: str) -> int:
    """By the name of the package that brings its libraries: tensorrt_cu13_libs."""
    for major in _CUDA_MAJORS:
        try:
            metadata.version(f"{module}-cu{major}-libs")
        except metadata.PackageNotFoundError:
            continue
        return major
    return 0


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # imported without a spec
        return True
