"""The command that installs each component that a GPU needs, on each kind of machine.

Package names come from JetPack's apt repository, of Ubuntu's, and of NVIDIA's CUDA repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...engines.library.device import Gpu
from .jetson import Jetson
from .toolkit import Toolkit

JETSON, RTX, DATACENTER = "jetson", "rtx", "datacenter"
KINDS = {JETSON: "Jetson", RTX: "RTX PC", DATACENTER: "datacenter GPU"}  # kind to display name
Commands = Mapping[str, str]  # kind to a command; empty if the kind does not need it

_RTX_NAMES = re.compile(r"GeForce|RTX|TITAN|Quadro")
_DRIVER = 580  # the first branch for CUDA 13; also runs binaries of CUDA 11 and 12
_TOOLKITS = {
    12: "cuda-toolkit-12-8",
    13: "cuda-toolkit-13-0",
}  # by CUDA major version: the first release that supports Blackwell
_NEWEST = 13
_REPOSITORY = "https://developer.download.nvidia.com/compute/cuda/repos"
_KEYRING = "cuda-keyring_1.1-1_all.deb"
_NVCC_FOLDER = "/usr/local/cuda/bin"


def machine_kind(jetson: Jetson | None, gpus: Sequence[Gpu]) -> str:
    """Return the kind of machine, from its Jetson release or its first GPU's name; empty without a GPU."""
    if jetson:
        return JETSON
    if not gpus:
        return ""
    return RTX if _RTX_NAMES.search(gpus[0].device.name) else DATACENTER


def everywhere(command: str) -> Commands:
    """Return the same command for every kind of machine."""
    return dict.fromkeys(KINDS, command)


def get_driver() -> Commands:
    """Return the commands that install a driver for CUDA 13. A Jetson's driver is part of Jetson Linux."""
    return {
        JETSON: "sudo apt install nvidia-l4t-cuda",
        RTX: f"sudo apt install nvidia-driver-{_DRIVER}-open",
        DATACENTER: f"sudo apt install nvidia-headless-{_DRIVER}-server-open nvidia-utils-{_DRIVER}-server",
    }


def enter_container() -> Commands:
    """Return the commands that start a container with access to the host's driver."""
    plain = "docker run --gpus all IMAGE"
    return {JETSON: "docker run --runtime nvidia IMAGE", RTX: plain, DATACENTER: plain}


def get_toolkit(distribution: str, architecture: str, driver_cuda: int) -> Commands:
    """Return the commands that install nvcc. `driver_cuda`: major CUDA version of the driver; 0: unknown."""
    package = _TOOLKITS.get(driver_cuda, _TOOLKITS[_NEWEST])
    place = f"{distribution or 'ubuntu2404'}/{'sbsa' if architecture == 'aarch64' else 'x86_64'}"
    plain = (
        f"wget {_REPOSITORY}/{place}/{_KEYRING} && sudo dpkg -i {_KEYRING} && sudo apt update && "
        f"sudo apt install {package}"
    )
    return {JETSON: "sudo apt install nvidia-jetpack", RTX: plain, DATACENTER: plain}


def build_kernels(toolkit: Toolkit) -> Commands:
    """Return the commands that reinstall LeakRT, compiled by the installed toolkit."""
    return everywhere(
        f"{_with_nvcc(toolkit)}pip install --force-reinstall --no-deps --no-cache-dir --no-binary leakrt leakrt"
    )


def build_pycuda(toolkit: Toolkit) -> Commands:
    """Return the commands that compile and install PyCUDA."""
    return everywhere(f"{_with_nvcc(toolkit)}pip install 'leakrt[tensorrt]'")


def get_tensorrt(driver_cuda: int) -> Commands:
    """Return the commands that install TensorRT. `driver_cuda`: major CUDA version of the driver; 0: unknown."""
    plain = "pip install tensorrt" if driver_cuda in (0, 13) or driver_cuda > _NEWEST else "pip install tensorrt-cu12"
    return {JETSON: "sudo apt install python3-libnvinfer", RTX: plain, DATACENTER: plain}


def see_tensorrt(python: str) -> Commands:
    """Return the commands that create an environment which can import the system's TensorRT bindings.

    `python` is the version that the bindings are for, such as "3.10".
    """
    make = f"/usr/bin/python{python} -m venv --system-site-packages ~/leakrt"
    return everywhere(f"{make} && ~/leakrt/bin/pip install 'leakrt[tensorrt]'")


def get_rtx() -> Commands:
    """Return the commands that install TensorRT-RTX, which exists for x86-64 only."""
    return {JETSON: "", RTX: "pip install 'leakrt[rtx]'", DATACENTER: ""}


def _with_nvcc(toolkit: Toolkit) -> str:
    """Return the prefix that puts nvcc on PATH for one command; empty if nvcc is on PATH."""
    if toolkit.on_path:
        return ""
    return f"PATH={Path(toolkit.path).parent if toolkit.path else _NVCC_FOLDER}:$PATH "
