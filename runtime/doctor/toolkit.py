"""The CUDA toolkit on this machine, and whether the driver and GPU can run the kernels in `leakrt._cuda`."""

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
_TEGRA = ("7.2", "8.7", "11.0")  # Jetson GPUs: their machine code and that of discrete GPUs are not interchangeable


@dataclass(frozen=True)
class Toolkit:
    """The installed nvcc; all fields are empty if there is none."""

    path: str = ""
    version: str = ""  # CUDA version: "13.0"; empty if nvcc does not run
    on_path: bool = False


@dataclass(frozen=True)
class KernelBuild:
    """How `leakrt._cuda` was built."""

    toolkit: str = ""  # CUDA version it was built with; empty if it is missing
    architectures: str = ""  # in CMake's notation: "75-real 86-real ... 120-virtual"
    problem: str = ""  # why it can't be imported


def find_toolkit() -> Toolkit:
    """Find nvcc on PATH, else in $CUDA_HOME, $CUDA_PATH or /usr/local/cuda. Does not raise."""
    found = shutil.which("nvcc")
    homes = [f"{os.environ[name]}/bin" for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    path = found or shutil.which("nvcc", path=os.pathsep.join((*homes, _FOLDER)))
    if path is None:
        return Toolkit()
    try:
        output = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        output = ""
    return Toolkit(path, parse_nvcc(output), found is not None)


def parse_nvcc(text: str) -> str:
    """Return the CUDA version in the output of `nvcc --version`, such as "13.0"; empty if there is none."""
    found = _RELEASE.search(text)
    return found.group(1) if found else ""


def find_kernels() -> KernelBuild:
    """Return how `leakrt._cuda` was built. Does not raise."""
    try:
        from ... import _cuda
    except ImportError as error:
        return KernelBuild(problem=f"LeakRT was built without its CUDA kernels: {error}")
    return KernelBuild(cuda_version(_cuda.toolkit_version()), _cuda.architectures())


def cuda_version(number: int) -> str:
    """Format a CUDA version number: 13000 as "13.0"."""
    return f"{number // 1000}.{number % 1000 // 10}"


def driver_too_old(driver: str, toolkit: str) -> bool:
    """Return whether the driver's CUDA major version is older than that of the toolkit, whose code it can't run."""
    return bool(driver and toolkit) and version_numbers(driver)[:1] < version_numbers(toolkit)[:1]


def kernels_misfit(kernels: KernelBuild, driver: str, capability: str) -> str:
    """Return why kernels can't run on a GPU of `capability` with a driver for CUDA `driver`; empty if they can."""
    if driver_too_old(driver, kernels.toolkit):
        return f"they were built with CUDA {kernels.toolkit}, but the driver supports CUDA up to {driver}"
    real, virtual = _built(kernels.architectures)
    if any(_runs_code(built, capability) for built in real) or not (real or virtual):
        return ""  # "native" names no capability; the build targets the GPU of the build machine
    if not any(version_numbers(built) <= version_numbers(capability) for built in virtual):
        return f"they were built for {listed(kernels)}, but this GPU has compute capability {capability}"
    if version_numbers(driver) < version_numbers(kernels.toolkit):
        return (
            f"they contain no machine code for compute capability {capability}, and compiling their PTX needs a driver "
            f"for CUDA {kernels.toolkit}; this one supports CUDA up to {driver}"
        )
    return ""


def listed(kernels: KernelBuild) -> str:
    """Format the compute capabilities that kernels were built for: "8.6, 8.9, 7.5 as PTX"."""
    real, virtual = _built(kernels.architectures)
    return ", ".join([*real, *(f"{c} as PTX" for c in virtual)]) or kernels.architectures


def _built(architectures: str) -> tuple[list[str], list[str]]:
    """Return the compute capabilities with machine code, and those with PTX."""
    found = [(f"{number[:-1]}.{number[-1]}", kind) for number, kind in _BUILT.findall(architectures)]
    return [c for c, kind in found if kind == "real"], [c for c, kind in found if kind == "virtual"]


def _runs_code(built: str, capability: str) -> bool:
    """Return whether machine code for `built` runs on `capability`.

    It runs on the same capability and, on discrete GPUs, on later ones of the same major version.
    """
    if built == capability:
        return True
    (major, minor), (own_major, own_minor) = version_numbers(built)[:2], version_numbers(capability)[:2]
    return major == own_major and minor <= own_minor and not {built, capability} & set(_TEGRA)
