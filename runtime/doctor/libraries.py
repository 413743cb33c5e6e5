"""Find TensorRT and TensorRT-RTX, and system bindings that this Python can't import."""

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
    version: str  # empty if it is not installed or can't be imported
    cuda: int  # major CUDA version it was built for, from its package name; 0: unknown
    problem: str  # why it can't be used; empty if it can, or if it is not installed

    @property
    def usable(self) -> bool:
        """Whether LeakRT can build and run engines with it."""
        return bool(self.version) and not self.problem


def find_libraries() -> tuple[tuple[Library, ...], list[Flavour]]:
    """Return the state of every flavour, and the usable flavours, loaded. Does not raise."""
    libraries, usable = [], []
    for name in FLAVOURS:
        try:
            flavour = load_flavour(name)
        except LeakRTError as error:
            problem = str(error) if _is_installed(MODULES[name]) else ""
            libraries.append(Library(flavour=name, version="", cuda=_cuda(MODULES[name]), problem=problem))
            continue
        usable.append(flavour)
        libraries.append(Library(flavour=name, version=flavour.version, cuda=_cuda(MODULES[name]), problem=""))
    return tuple(libraries), usable


def system_bindings(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the Python versions, such as "3.10", with TensorRT bindings from Debian packages.

    A virtual environment may not be able to import them.
    """
    found = (root / "usr/lib").glob("python3*/dist-packages/tensorrt")
    return tuple(sorted(path.parts[-3].removeprefix("python") for path in found if path.is_dir()))


def pycuda_version() -> str:
    """Return PyCUDA's version; empty if it is not installed. Does not import it, which needs a driver."""
    try:
        return metadata.version("pycuda")
    except metadata.PackageNotFoundError:
        return "another build" if _is_installed("pycuda") else ""


def _cuda(module: str) -> int:
    """Return the CUDA major version in the name of the installed package, such as tensorrt_cu13_libs; 0 if unknown."""
    for major in _CUDA_MAJORS:
        try:
            metadata.version(f"{module}-cu{major}-libs")
        except metadata.PackageNotFoundError:
            continue
        return major
    return 0


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ValueError:  # imported without a spec
        return True
