"""For each thing that a GPU needs, the one command that gets it, on each kind of machine.

Package names are those of JetPack's apt repository, of Ubuntu's, and of NVIDIA's CUDA repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...engines.library.device import Gpu
from .jetson import Jetson
from .toolkit import Toolkit

JETSON, RTX, DATACENTER = "jetson", "rtx", "datacenter"
KINDS = {JETSON: "Jetson", RTX: "RTX PC", DATACENTER: "datacenter GPU"}  # kind to what people call it
Commands = Mapping[str, str]  # kind to a command; empty where a kind has no use for it

_RTX_NAMES = re.compile(r"GeForce|RTX|TITAN|Quadro")
_DRIVER = 580  # the first branch for CUDA 13, which runs what CUDA 11 and 12 built as well
_TOOLKITS = {12: "cuda-toolkit-12-8", 13: "cuda-toolkit-13-0"}  # the first of each that knows Blackwell
_NEWEST = 13
_REPOSITORY = "https://developer.download.nvidia.com/compute/cuda/repos"
_KEYRING = "cuda-keyring_1.1-1_all.deb"
_NVCC_FOLDER = "/usr/local/cuda/bin"


def machine_kind(jetson: Jetson | None, gpus: Sequence[Gpu]) -> str:
    """What this machine is by its release file, else by its first GPU's name; empty where there is no GPU."""
    if jetson:
        return JETSON
    if not gpus:
        return ""
    return RTX if _RTX_NAMES.search(gpus[0].device.name) else DATACENTER


def everywhere(command: str) -> Commands:
    """The same command on every kind of machine."""
    return dict.fromkeys(KINDS, command)


def get_driver() -> Commands:
    """The driver, new enough for CUDA 13. A Jetson's belongs to its Jetson Linux."""
    return {
        JETSON: "sudo apt install nvidia-l4t-cuda",
        RTX: f"sudo apt install nvidia-driver-{_DRIVER}-open",
        DATACENTER: f"sudo apt install nvidia-headless-{_DRIVER}-server-open nvidia-utils-{_DRIVER}-server",
    }


def enter_container() -> Commands:
    """A container that sees the driver outside."""
    plain = "docker run --gpus all IMAGE"
    return {JETSON: "docker run --runtime nvidia IMAGE", RTX: plain, DATACENTER: plain}


def get_toolkit(distribution: str, architecture: str, driver_cuda: int) -> Commands:
    """nvcc, of the major CUDA version that the driver supports (0: not known)."""
    package = _TOOLKITS.get(driver_cuda, _TOOLKITS[_NEWEST])
    place = f"{distribution or 'ubuntu2404'}/{'sbsa' if architecture == 'aarch64' else 'x86_64'}"
    plain = (
        f"wget {_REPOSITORY}/{place}/{_KEYRING} && sudo dpkg -i {_KEYRING} && sudo apt update && "
        f"sudo apt install {package}"
    )
    return {JETSON: "sudo apt install nvidia-jetpack", RTX: plain, DATACENTER: plain}


def build_kernels(toolkit: Toolkit) -> Commands:
    """LeakRT once more, compiled here by the toolkit found."""
    return everywhere(
        f"{_with_nvcc(toolkit)}pip install --force-reinstall --no-deps --no-cache-dir --no-binary leakrt leakrt"
    )


def build_pycuda(toolkit: Toolkit) -> Commands:
    """PyCUDA is compiled where it is installed."""
    return everywhere(f"{_with_nvcc(toolkit)}pip install 'leakrt[tensorrt]'")


def get_tensorrt(driver_cuda: int) -> Commands:
    """TensorRT for the CUDA that the driver supports (0: not known)."""
    plain = "pip install tensorrt" if driver_cuda in (0, 13) or driver_cuda > _NEWEST else "pip install tensorrt-cu12"
    return {JETSON: "sudo apt install python3-libnvinfer", RTX: plain, DATACENTER: plain}


def see_tensorrt(python: str) -> Commands:
    """An environment of the Python that the system's TensorRT bindings are for, which sees them."""
    make = f"/usr/bin/python{python} -m venv --system-site-packages ~/leakrt"
    return everywhere(f"{make} && ~/leakrt/bin/pip install 'leakrt[tensorrt]'")


def get_rtx() -> Commands:
    """TensorRT-RTX, for x86-64 only."""
    return {JETSON: "", RTX: "pip install 'leakrt[rtx]'", DATACENTER: ""}


def _with_nvcc(toolkit: Toolkit) -> str:
    """What puts nvcc on PATH for one command; empty where it is there."""
    if toolkit.on_path:
        return ""
    return f"PATH={Path(toolkit.path).parent if toolkit.path else _NVCC_FOLDER}:$PATH "
