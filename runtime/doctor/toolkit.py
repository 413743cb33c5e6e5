"""The CUDA toolkit on this machine, and what `leakrt._cuda` was built with and for: whether driver and GPU take it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from ...engines.library.flavour import version_numbers

_FOLDER = "/usr/local/cuda/bin"
_RELEASE = re.compile(r"release (\d+\.\d+)")
_BUILT = re.compile(r"(\d+)a?-(real|virtual)")
_TEGRA = ("7.2", "8.7", "11.0")  # machine code of a Jetson and of a card are not for one another


@dataclass(frozen=True)
class Toolkit:
    """The nvcc found; all empty where there is none."""

    path: str = ""
    version: str = ""  # of CUDA: "13.0"; empty where it does not run
    on_path: bool = False


@dataclass(frozen=True)
class KernelBuild:
    """`leakrt._cuda`, as it was built."""

    toolkit: str = ""  # the CUDA version it was built with; empty where it is not there
    architectures: str = ""  # as CMake names them: "75-real 86-real ... 120-virtual"
    problem: str = ""  # why it does not import


def find_toolkit() -> Toolkit:
    """nvcc on PATH, else below $CUDA_HOME, $CUDA_PATH or /usr/local/cuda. Raises nothing."""
    found = shutil.which("nvcc")
    homes = [f"{os.environ[name]}/bin" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    path = found or shutil.which("nvcc", path=os.pathsep.join((*homes, _FOLDER)))
    if path is None:
        return Toolkit()
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        said = ""
    return Toolkit(path, parse_nvcc(said), found is not None)


def parse_nvcc(text: str) -> str:
    """The CUDA version that `nvcc --version` states: "13.0"; empty where it states none."""
    found = _RELEASE.search(text)
    return found.group(1) if found else ""


def find_kernels() -> KernelBuild:
    """Ask `leakrt._cuda`. Raises nothing."""
    try:
        from ... import _cuda
    except ImportError as error:
        return KernelBuild(problem=f"LeakRT was built without its CUDA kernels ({error})")
    return KernelBuild(cuda_version(_cuda.toolkit_version()), _cuda.architectures())


def cuda_version(number: int) -> str:
    """13000 as "13.0"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def driver_too_old(driver: str, toolkit: str) -> bool:
    """Whether a driver for CUDA `driver` runs nothing that CUDA `toolkit` built: within a major version it does."""
    return bool(driver and toolkit) and version_numbers(driver)[:1] < version_numbers(toolkit)[:1]


def kernels_misfit(kernels: KernelBuild, driver: str, capability: str) -> str:
    """Why kernels can't run with a driver for CUDA `driver` on a GPU of a compute capability; empty when they can."""
    if driver_too_old(driver, kernels.toolkit):
        return f"they were built with CUDA {kernels.toolkit}, and the driver supports CUDA up to {driver}"
    real, virtual = _built(kernels.architectures)
    if any(_runs_code(built, capability) for built in real) or not (real or virtual):
        return ""  # "native" names no capability: it was built for the GPU of that machine
    if not any(version_numbers(built) <= version_numbers(capability) for built in virtual):
        return f"they were built for {listed(kernels)}, and this GPU has compute capability {capability}"
    if version_numbers(driver) < version_numbers(kernels.toolkit):
        return (
            f"they hold no machine code for compute capability {capability}, and the driver compiles it only from "
            f"CUDA {kernels.toolkit} on; it supports {driver}"
        )
    return ""


def listed(kernels: KernelBuild) -> str:
    """What kernels were built for, for people: "8.6, 8.9, 7.5 as PTX"."""
    real, virtual = _built(kernels.architectures)
    return ", ".join([*real, *(f"{c} as PTX" for c in virtual)]) or kernels.architectures


def _built(architectures: str) -> tuple[list[str], list[str]]:
    """Compute capabilities with machine code, and with PTX."""
    found = [(f"{number[:-1]}.{number[-1]}", kind) for number, kind in _BUILT.findall(architectures)]
    return [c for c, kind in found if kind == "real"], [c for c, kind in found if kind == "virtual"]


def _runs_code(built: str, capability: str) -> bool:
    """Machine code runs on its own capability and on later ones of that major version, among cards."""
    if built == capability:
        return True
    (major, minor), (own_major, own_minor) = version_numbers(built)[:2], version_numbers(capability)[:2]
    return major == own_major and minor <= own_minor and not {built, capability} & set(_TEGRA)
