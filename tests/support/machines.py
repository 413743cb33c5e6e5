"""Machines for the doctor's tests: files as devices have them, and facts as a healthy machine of each kind gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from leakrt.engines.library.device import Gpu, TargetDevice
from leakrt.runtime.doctor.cached import CacheState
from leakrt.runtime.doctor.facts import DriverFacts, MachineFacts
from leakrt.runtime.doctor.jetson import Jetson
from leakrt.runtime.doctor.libraries import Library
from leakrt.runtime.doctor.toolkit import KernelBuild, Toolkit

# First lines of /etc/nv_tegra_release as read on devices.
RELEASES = {
    "35.1.0": "# R35 (release), REVISION: 1.0, GCID: 31346300, BOARD: t186ref, EABI: aarch64, "
    "DATE: Thu Aug 25 18:41:45 UTC 2022\n",
    "35.4.1": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, "
    "DATE: Tue Aug  1 19:57:35 UTC 2023\n",
    "36.3.0": "# R36 (release), REVISION: 3.0, GCID: 36923193, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Jul 19 23:24:25 UTC 2024\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
    "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n",
    "36.4.7": "# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, "
    "DATE: Thu Sep 18 22:54:44 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
    "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n",
    "38.2.0": "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 22 00:55:42 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
    "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\nINSTALL_TYPE=\n",
    "39.2.0": "# R39 (release), REVISION: 2.0, GCID: 45755727, BOARD: generic, EABI: aarch64, "
    "DATE: Mon Jun  1 09:28:48 PM UTC 2026\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
    "TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia\n",
}
THOR = "NVIDIA Jetson AGX Thor Developer Kit\0"
THOR_COMPATIBLE = "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0"
ORIN_NANO = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0"


def put(root: Path, files: dict[str, str]) -> Path:
    """Write files below `root`, and return it."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def _gpu(name: str, capability: str, gib: int, *, integrated: bool = False) -> Gpu:
    return Gpu(
        index=0,
        device=TargetDevice(name=name, capability=capability, multiprocessors=16, driver="580.95.05"),
        memory=gib << 30,
        integrated=integrated,
    )


_KERNELS = KernelBuild(
    "13.0", "75-real 86-real 87-real 89-real 90-real 100-real 110-real 120-real 75-virtual 120-virtual"
)
RTX_PC = MachineFacts(
    python="3.12",
    distribution="ubuntu2404",
    architecture="x86_64",
    container=False,
    hidden="",
    jetson=None,
    driver=DriverFacts(version="580.95.05", cuda="13.0", problem="", code=0),
    gpus=(_gpu("NVIDIA GeForce RTX 4070", "8.9", 12),),
    toolkit=Toolkit("/usr/local/cuda/bin/nvcc", "13.0", True),
    kernels=_KERNELS,
    libraries=(
        Library(flavour="tensorrt", version="10.13.3.9", cuda=13, problem=""),
        Library(flavour="tensorrt-rtx", version="1.7.1.116", cuda=13, problem=""),
    ),
    bindings=(),
    pycuda="2026.1",
    cache=CacheState(
        path="/cache/engines", engines=2, bytes=1 << 20, limit=8 << 30, broken=0, elsewhere=0, reason="", problem=""
    ),
)
SERVER = replace(
    RTX_PC,
    gpus=(_gpu("NVIDIA H100 80GB HBM3", "9.0", 80),),
    libraries=(
        Library(flavour="tensorrt", version="11.4.0.106", cuda=13, problem=""),
        Library(flavour="tensorrt-rtx", version="", cuda=0, problem=""),
    ),
)
ORIN = replace(
    RTX_PC,
    python="3.10",
    distribution="ubuntu2204",
    architecture="aarch64",
    jetson=Jetson(ORIN_NANO.strip("\0"), "36.4.3", "6.2"),
    driver=DriverFacts(version="540.4.0", cuda="12.6", problem="", code=0),
    gpus=(_gpu("Orin", "8.7", 7, integrated=True),),
    toolkit=Toolkit("/usr/local/cuda/bin/nvcc", "12.6", False),
    kernels=KernelBuild("12.6", "72-real 75-real 86-real 87-real 72-virtual 87-virtual"),
    libraries=(
        Library(flavour="tensorrt", version="10.3.0", cuda=0, problem=""),
        Library(flavour="tensorrt-rtx", version="", cuda=0, problem=""),
    ),
    bindings=("3.10",),
)
BARE = replace(
    RTX_PC,
    driver=DriverFacts(version="", cuda="", problem="no NVIDIA driver here: libcuda.so.1 can't be loaded", code=0),
    gpus=(),
    toolkit=Toolkit(),
    kernels=KernelBuild(problem="LeakRT was built without its CUDA kernels (no _cuda)"),
    libraries=(
        Library(flavour="tensorrt", version="", cuda=0, problem=""),
        Library(flavour="tensorrt-rtx", version="", cuda=0, problem=""),
    ),
    pycuda="",
    cache=CacheState(
        path="/cache/engines", engines=0, bytes=0, limit=8 << 30, broken=0, elsewhere=0, reason="", problem=""
    ),
)
